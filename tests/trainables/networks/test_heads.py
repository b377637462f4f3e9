import math

import pytest
import torch
from torch import nn

from trainables.config import Activation, Initializer
from trainables.errors import ConfigError
from trainables.head_layers import Dense, Dropout
from trainables.networks.heads import ACTIVATIONS, INITIALIZERS, build_head, build_listed_head

INPUTS, UNITS = 400, 600
# Standard normal density at 2 and mass within ±2: the variance of a normal that is cut at two deviations.
DENSITY, MASS = math.exp(-2) / math.sqrt(2 * math.pi), math.erf(math.sqrt(2))
CUT = 0.02**2 * (1 - 4 * DENSITY / MASS)
EXPECTED = {
    "xavier_uniform": 2 / (INPUTS + UNITS),
    "xavier_normal": 2 / (INPUTS + UNITS),
    "kaiming_uniform": 2 / INPUTS,
    "kaiming_normal": 2 / INPUTS,
    "orthogonal": 1 / UNITS,
    "trunc_normal": CUT,
    "zeros_last": CUT,
    "default": 1 / (3 * INPUTS),
}


def linears(head):
    return [part for part in head if isinstance(part, nn.Linear)]


def test_the_tables_have_the_names_of_the_configuration():
    assert set(INITIALIZERS) == set(Initializer.__args__) == set(EXPECTED)
    assert set(ACTIVATIONS) == set(Activation.__args__)


@pytest.mark.parametrize("initializer", INITIALIZERS)
def test_each_initializer_gives_the_documented_variance(initializer):
    torch.manual_seed(0)
    first, last = linears(build_head(INPUTS, 10, layers=1, units=UNITS, initializer=initializer))
    # With 240,000 values the estimated variance of a normal is within 0.3 % (one standard deviation), of the others even closer.
    assert first.weight.var().item() == pytest.approx(EXPECTED[initializer], rel=0.02)
    assert abs(first.weight.mean().item()) < 5 * math.sqrt(EXPECTED[initializer] / first.weight.numel())
    assert (first.bias.count_nonzero() == 0) == (initializer != "default")
    assert (last.weight.count_nonzero() == 0) == (initializer == "zeros_last")


@pytest.mark.parametrize(
    ("initializer", "edge"), [("xavier_uniform", math.sqrt(6 / 1000)), ("kaiming_uniform", math.sqrt(6 / 400)), ("trunc_normal", 0.04)]
)
def test_bounded_initializers_fill_their_range_and_stay_inside(initializer, edge):
    torch.manual_seed(0)
    weight = linears(build_head(INPUTS, 10, layers=1, units=UNITS, initializer=initializer))[0].weight
    assert 0.98 * edge < weight.abs().max() <= edge


def test_normal_initializers_have_the_kurtosis_of_a_normal():
    torch.manual_seed(0)
    for initializer in ("xavier_normal", "kaiming_normal"):
        weight = linears(build_head(INPUTS, 10, layers=1, units=UNITS, initializer=initializer))[0].weight
        assert (weight / weight.std()).pow(4).mean().item() == pytest.approx(3, rel=0.05)


def test_orthogonal_gives_orthonormal_rows_or_columns():
    head = build_head(40, 10, layers=1, units=60, initializer="orthogonal")
    first, last = (part.weight for part in linears(head))
    assert torch.allclose(first.T @ first, torch.eye(40), atol=1e-5)
    assert torch.allclose(last @ last.T, torch.eye(10), atol=1e-5)


def test_zeros_last_gives_zero_logits_for_every_image():
    head = build_head(20, 5, layers=2, units=16, initializer="zeros_last").eval()
    assert head(torch.randn(7, 20)).abs().max() == 0
    assert all(part.weight.count_nonzero() for part in linears(head)[:-1])


def test_default_equals_torch():
    torch.manual_seed(3)
    head = build_head(20, 5, layers=1, units=16, initializer="default")
    torch.manual_seed(3)
    own = [nn.Linear(20, 16), nn.Linear(16, 5)]
    for built, expected in zip(linears(head), own, strict=True):
        assert torch.equal(built.weight, expected.weight)
        assert torch.equal(built.bias, expected.bias)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("layers", range(4))
def test_the_head_has_the_given_layers_units_activation_and_dropout(layers, activation):
    head = build_head(20, 5, layers=layers, units=16, activation=activation, dropout=0.3)
    hidden = [nn.Dropout, nn.Linear, ACTIVATIONS[activation]] * layers
    assert [type(part) for part in head] == [*hidden, nn.Dropout, nn.Linear]
    assert [(part.in_features, part.out_features) for part in linears(head)] == list(
        zip([20] + [16] * layers, [16] * layers + [5], strict=True)
    )
    assert all(part.p == 0.3 for part in head if isinstance(part, nn.Dropout))
    assert head(torch.randn(3, 20)).shape == (3, 5)


def test_unknown_names_are_rejected_with_the_nearest_one():
    with pytest.raises(ConfigError, match="did you mean 'xavier_normal'"):
        build_head(4, 2, layers=0, units=8, initializer="xavier_norma")
    with pytest.raises(ConfigError, match="did you mean 'gelu'"):
        build_head(4, 2, layers=1, units=8, activation="gelo")


def test_a_listed_head_has_its_layers_in_order_and_the_outputs_last():
    layers = (Dropout(0.1), Dense(32, "gelu"), Dense(16), Dropout(0.3), Dense())
    head = build_listed_head(20, 5, layers, "xavier_normal")
    assert [type(part) for part in head] == [nn.Dropout, nn.Linear, nn.GELU, nn.Linear, nn.Dropout, nn.Linear]
    assert [(part.in_features, part.out_features) for part in linears(head)] == [(20, 32), (32, 16), (16, 5)]
    assert [part.p for part in head if isinstance(part, nn.Dropout)] == [0.1, 0.3]
    assert head(torch.randn(3, 20)).shape == (3, 5)
    assert not any(part.bias.any() for part in linears(head))
