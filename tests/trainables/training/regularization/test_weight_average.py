import pytest
import torch

from trainables.distributed.world import ALONE
from trainables.networks.bodies import build_body
from trainables.networks.heads import build_head
from trainables.networks.model import Network
from trainables.training.regularization.weight_average import WeightAverage


@pytest.fixture
def network():
    torch.manual_seed(0)
    body = build_body("squeezenet1_1")
    return Network(body, build_head(body.width, 3, layers=0, units=8), unfrozen_stages=1)


def train(network, average, values, first=0):
    """Set the head's bias to each value in turn, as steps of an optimizer would."""
    with average.training(ALONE):
        found = network.head[1].bias[0].item()
        for step, value in enumerate(values, first):
            network.head[1].bias.data.fill_(value)
            average.update(step)
    return found


def expected(start, values, decay):
    for step, value in enumerate(values):
        kept = min(decay, (1 + step) / (10 + step))
        start = kept * start + (1 - kept) * value
    return start


@pytest.mark.parametrize("decay", [0.3, 0.9, 0.999])
def test_the_network_holds_the_average_after_an_epoch_and_the_live_weights_in_the_next(network, decay):
    average, values = WeightAverage(network, decay), [1.0, 3.0, 2.0, 5.0, 4.0, 7.0]
    assert train(network, average, values[:3]) == 0
    assert network.head[1].bias[0].item() == pytest.approx(expected(0.0, values[:3], decay))
    assert train(network, average, values[3:], first=3) == 2.0
    assert network.head[1].bias[0].item() == pytest.approx(expected(0.0, values, decay))
    assert average.live["head.1.bias"][0] == 7


def test_the_initial_weights_are_forgotten_within_a_short_trial(network):
    average = WeightAverage(network, 0.999)
    train(network, average, [1.0] * 60)
    assert network.head[1].bias[0].item() > 0.99


def test_frozen_parameters_are_not_averaged(network):
    average = WeightAverage(network, 0.9)
    train(network, average, [1.0])
    assert average.live.keys() == {name for name, tensor in network.trained_state().items() if isinstance(tensor, torch.nn.Parameter)}
    assert not any("features.0." in name for name in average.live)


def test_without_decay_the_network_keeps_its_weights(network):
    average = WeightAverage(network, 0.0)
    train(network, average, [1.0, 2.0])
    assert network.head[1].bias[0] == 2
    assert average.live is None
