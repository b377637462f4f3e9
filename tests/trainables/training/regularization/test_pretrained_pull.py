import pytest
import torch

from trainables.networks.bodies import build_body
from trainables.networks.heads import build_head
from trainables.networks.model import Network
from trainables.training.regularization.pretrained_pull import PretrainedPull


def build(strength, *, new_stages=0, rate=0.1):
    torch.manual_seed(0)
    body = build_body("mobilenet_v3_small")
    network = Network(body, build_head(body.width, 3, layers=0, units=8), unfrozen_stages=2)
    optimizer = torch.optim.SGD(network.parameter_groups(rate, 0.5, 0.0))
    return network, optimizer, PretrainedPull(optimizer, strength, new_stages=new_stages)


def moved_by_one_step(strength, **options):
    """Add 1 to all weights, make one step, and return how far each weight is from its pretrained value, by stages from the head."""
    network, optimizer, pull = build(strength, **options)
    before = {name: tensor.clone() for name, tensor in network.named_parameters()}
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 1
    optimizer.load_state_dict(optimizer.state_dict())  # as a resumed trial does
    pull.step()
    place = {id(p): group["distance"] for group in optimizer.param_groups for p in group["params"]}
    found = {}
    for name, parameter in network.named_parameters():
        key = place.get(id(parameter), "frozen"), parameter.ndim > 1
        found.setdefault(key, set()).add(round((parameter - before[name]).mean().item(), 4))
    return found


@pytest.mark.parametrize(("strength", "share"), [(2.0, 0.1), (100.0, 1.0), (0.0, 0.0)])
def test_a_step_moves_unfrozen_weights_by_their_rate_and_nothing_else(strength, share):
    moved = moved_by_one_step(strength)
    assert moved[1, True] == {round(1 - share, 4)}
    assert moved[2, True] == {round(1 - share / 2, 4) if share < 1 else 0.0}, "the rate of the stage before is half"
    assert moved[0, True] == moved["frozen", True] == {1.0}
    assert moved[1, False] == moved[2, False] == {1.0}, "biases and norms"


def test_new_stages_have_nothing_to_be_pulled_to():
    moved = moved_by_one_step(2.0, new_stages=1)
    assert (moved[1, True], moved[2, True]) == ({1.0}, {0.95})
