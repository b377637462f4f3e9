from contextlib import nullcontext
from itertools import pairwise

import pytest
import torch
from torch import nn

from trainables.errors import NonFiniteError
from trainables.networks.bodies import build_body
from trainables.networks.heads import build_head
from trainables.networks.model import Network
from trainables.training.loop import predict, train_epoch


@pytest.fixture
def network():
    torch.manual_seed(0)
    body = build_body("mobilenet_v3_small")
    return Network(body, build_head(body.width, 3, layers=0, units=8), unfrozen_stages=5, batch_norm_trains=False)


def batches(count=4, size=8):
    generator = torch.Generator().manual_seed(0)
    return [(torch.randn(size, 3, 32, 32, generator=generator), torch.randint(3, (size,), generator=generator)) for _ in range(count)]


def sgd(network, rate=0.1):
    return torch.optim.SGD(network.parameter_groups(rate, 1.0, 0.0))


def train(network, optimizer, data, **changes):
    options = {"first_step": 0, "rate": lambda step: 1.0, "thaw_step": 0, "clip_norm": 0.0, "accumulation": 1, "autocast": nullcontext}
    return train_epoch(network, optimizer, data, nn.functional.cross_entropy, **{**options, **changes})


def state(network):
    return {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}


def same(a, b, start=""):
    return all(torch.equal(a[name], b[name]) for name in a if name.startswith(start))


def test_two_micro_batches_are_one_big_batch(network):
    begin = state(network)
    found = []
    for accumulation in (1, 2, 4):
        network.load_state_dict(begin)
        found.append((train(network, sgd(network), batches(), accumulation=accumulation), state(network)))
    (loss, seen), expected = found[0]
    assert not same(begin, expected, "body.")
    assert seen == 32
    for (other, others_seen), tensors in found[1:]:
        assert other == pytest.approx(loss, rel=1e-4)
        assert others_seen == seen
        for name, tensor in tensors.items():
            assert torch.allclose(tensor.float(), expected[name].float(), rtol=1e-3, atol=1e-5), name


def test_the_body_is_frozen_up_to_the_very_step_of_thawing(network):
    before = []

    def watched():
        for batch in batches(6):
            before.append(state(network))
            yield batch

    train(network, sgd(network), watched(), first_step=10, thaw_step=13)
    before.append(state(network))
    assert [same(a, b, "body.") for a, b in pairwise(before)] == [True] * 3 + [False] * 3
    assert not any(same(a, b, "head.") for a, b in pairwise(before))


def test_each_step_has_its_rate_in_every_group(network):
    optimizer = torch.optim.SGD(network.parameter_groups(0.1, 0.5, 0.0))
    seen = []

    def rate(step):
        seen.append(step)
        return 1 / (step + 1)

    train(network, optimizer, batches(3), first_step=5, rate=rate)
    assert set(seen) == {5, 6, 7}
    assert all(group["lr"] == pytest.approx(group["peak"] / 8) for group in optimizer.param_groups)
    assert {round(group["peak"], 6) for group in optimizer.param_groups} == {round(0.1 * 0.5**distance, 6) for distance in range(6)}


@pytest.mark.parametrize("clip_norm", [0.05, 0.0])
def test_clipping_bounds_the_step(network, clip_norm):
    before = state(network)
    train(network, sgd(network, rate=1.0), batches(1), clip_norm=clip_norm)
    moved = torch.stack([(parameter - before[name]).norm() for name, parameter in network.named_parameters()]).norm().item()
    if clip_norm:
        assert moved == pytest.approx(clip_norm, rel=1e-3)
    else:
        assert moved > 0.1


def test_a_poisoned_weight_ends_the_training(network):
    network.head[1].weight.data[0, 0] = float("nan")
    with pytest.raises(NonFiniteError, match="the training loss became nan; a lower learning rate or gradient clipping helps"):
        train(network, sgd(network), batches(2))


def test_a_rate_far_too_high_ends_the_training(network):
    with pytest.raises(NonFiniteError, match="the training loss became"):
        train(network, sgd(network, rate=1e6), batches(8))


def test_predictions_are_in_order_and_change_nothing(network):
    before = state(network)
    network.head[0].p = 0.5
    network.train()
    logits, targets = predict(network, batches(3), nullcontext)
    assert same(before, state(network))
    assert torch.equal(targets, torch.cat([wanted for _, wanted in batches(3)]))
    network.eval()
    with torch.no_grad():
        assert torch.equal(logits, torch.cat([network(images) for images, _ in batches(3)]))
