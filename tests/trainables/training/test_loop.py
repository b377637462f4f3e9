from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import nn

from trainables.errors import NonFiniteError
from trainables.networks.bodies import build_body
from trainables.networks.heads import build_head
from trainables.networks.model import Network
from trainables.training.loop import LoopSettings, MicroBatches, train_epoch


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


def train(network, optimizer, data, first_step=0, **changes):
    settings = LoopSettings(loss=nn.functional.cross_entropy, rate=lambda step, first: 1.0, thaw_step=0, clip_norm=0.0)
    return train_epoch(network, optimizer, data, replace(settings, **changes), first_step=first_step)


def state(network):
    return {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}


def same(a, b, start=""):
    return all(torch.equal(a[name], b[name]) for name in a if name.startswith(start))


def test_micro_batches_equal_one_whole_batch(network):
    begin = state(network)
    results = []
    for accumulation in (1, 2, 4):
        network.load_state_dict(begin)
        results.append((train(network, sgd(network), batches(), parts=MicroBatches(accumulation)), state(network)))
    (loss, images), expected = results[0]
    assert not same(begin, expected, "body.")
    assert images == 32
    for (other_loss, other_images), tensors in results[1:]:
        assert other_loss == pytest.approx(loss, rel=1e-4)
        assert other_images == images
        for name, tensor in tensors.items():
            assert torch.allclose(tensor.float(), expected[name].float(), rtol=1e-3, atol=1e-5), name


def test_the_body_is_frozen_before_the_thaw_step_and_trains_from_it_on(network):
    before = []

    def watched_batches():
        for batch in batches(6):
            before.append(state(network))
            yield batch

    train(network, sgd(network), watched_batches(), first_step=10, thaw_step=13)
    before.append(state(network))
    assert [same(a, b, "body.") for a, b in pairwise(before)] == [True] * 3 + [False] * 3
    assert not any(same(a, b, "head.") for a, b in pairwise(before))


def test_every_group_has_the_rate_of_each_step(network):
    optimizer = torch.optim.SGD(network.parameter_groups(0.1, 0.5, 0.0))
    steps = []

    def rate(step, first):
        steps.append(step)
        return 1 / (step + 1)

    train(network, optimizer, batches(3), first_step=5, rate=rate)
    assert set(steps) == {5, 6, 7}
    assert all(group["lr"] == pytest.approx(group["peak"] / 8) for group in optimizer.param_groups)
    assert {round(group["peak"], 6) for group in optimizer.param_groups} == {round(0.1 * 0.5**distance, 6) for distance in range(6)}


def test_the_rate_of_the_body_counts_from_the_step_at_which_it_thaws(network):
    optimizer, asked = sgd(network), set()

    def rate(step, first):
        asked.add((step, first))
        return 1.0 + first

    train(network, optimizer, batches(3), rate=rate, thaw_step=2)
    assert asked == {(step, first) for step in range(3) for first in (0, 2)}
    factors = {group["distance"] > 0: round(group["lr"] / group["peak"], 6) for group in optimizer.param_groups}
    assert factors == {False: 1.0, True: 3.0}


def fail_above(network, images):
    """Make the network raise torch's error for too little memory if it gets more than so many images at a time."""

    def check(module, inputs):
        if len(inputs[0]) > images:
            raise torch.OutOfMemoryError("the device's memory is too small")

    network.register_forward_pre_hook(check)


@pytest.mark.parametrize("fits", [4, 2])
def test_a_batch_that_the_memory_does_not_hold_is_split_and_trains_the_same(network, fits):
    begin = state(network)
    loss, _ = train(network, sgd(network), batches())
    expected = state(network)
    network.load_state_dict(begin)
    fail_above(network, fits)
    parts = MicroBatches(1)
    assert train(network, sgd(network), batches(), parts=parts)[0] == pytest.approx(loss, rel=1e-4)
    assert parts.count == 8 // fits
    assert all(torch.allclose(tensor.float(), expected[name].float(), rtol=1e-3, atol=1e-5) for name, tensor in state(network).items())


@pytest.mark.parametrize(("fits", "accumulation"), [(1, 1), (4, 8)])
def test_a_batch_is_split_twice_at_most_and_never_below_one_image(network, fits, accumulation):
    fail_above(network, fits if accumulation == 1 else 0)
    parts = MicroBatches(accumulation)
    with pytest.raises(torch.OutOfMemoryError):
        train(network, sgd(network), batches(), parts=parts)
    assert parts.count == (4 if accumulation == 1 else 8)


@pytest.mark.parametrize("clip_norm", [0.05, 0.0])
def test_clip_norm_bounds_the_change_of_the_weights(network, clip_norm):
    before = state(network)
    train(network, sgd(network, rate=1.0), batches(1), clip_norm=clip_norm)
    moved = torch.stack([(parameter - before[name]).norm() for name, parameter in network.named_parameters()]).norm().item()
    if clip_norm:
        assert moved == pytest.approx(clip_norm, rel=1e-3)
    else:
        assert moved > 0.1


def test_a_weight_that_is_nan_raises(network):
    network.head[1].weight.data[0, 0] = float("nan")
    with pytest.raises(NonFiniteError, match="the training loss became nan; a lower learning rate or gradient clipping helps"):
        train(network, sgd(network), batches(2))


def test_a_diverging_loss_raises(network):
    with pytest.raises(NonFiniteError, match="the training loss became"):
        train(network, sgd(network, rate=1e6), batches(8))
