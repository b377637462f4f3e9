"""The new head: a linear layer or a multilayer perceptron on the body's features, and a table of initializers for it."""

from collections.abc import Callable, Collection, Sequence

from torch import Tensor, nn

from trainables.errors import ConfigError, did_you_mean
from trainables.head_layers import Dense, Dropout

ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "gelu": nn.GELU, "silu": nn.SiLU, "tanh": nn.Tanh}


def _trunc_normal(weight: Tensor) -> Tensor:
    return nn.init.trunc_normal_(weight, std=0.02, a=-0.04, b=0.04)


INITIALIZERS: dict[str, Callable[[Tensor], Tensor] | None] = {
    "xavier_uniform": nn.init.xavier_uniform_,
    "xavier_normal": nn.init.xavier_normal_,
    "kaiming_uniform": lambda weight: nn.init.kaiming_uniform_(weight, nonlinearity="relu"),
    "kaiming_normal": lambda weight: nn.init.kaiming_normal_(weight, nonlinearity="relu"),
    "orthogonal": nn.init.orthogonal_,
    "trunc_normal": _trunc_normal,
    "zeros_last": _trunc_normal,
    "default": None,
}
"""Name → initializer of a linear layer's weight; biases are set to 0. `zeros_last` is `trunc_normal` with a last layer of zeros, so that
the untrained prediction is the same for every image. `default` keeps torch's own weights and biases.
Sources: Glorot & Bengio 2010 (xavier), He et al. 2015 (kaiming), Saxe et al. 2014 (orthogonal), Dosovitskiy et al. 2021 (0.02)."""


def build_head(
    inputs: int, outputs: int, *, layers: int, units: int, activation: str = "relu", dropout: float = 0.0, initializer: str = "trunc_normal"
) -> nn.Sequential:
    """Return an initialized head: features `(N, inputs)` → logits `(N, outputs)`.

    It has `layers` hidden layers of `units` neurons, and dropout before every linear layer. Raises as `build_listed_head` does.
    """
    hidden = (Dropout(dropout), Dense(units, activation))
    return build_listed_head(inputs, outputs, (*hidden * layers, Dropout(dropout), Dense()), initializer)


def build_listed_head(inputs: int, outputs: int, layers: Sequence[Dense | Dropout], initializer: str = "trunc_normal") -> nn.Sequential:
    """Return an initialized head of these layers: features `(N, inputs)` → logits `(N, outputs)`. A `Dense` without units has `outputs`.

    Raises ``ConfigError`` for an activation or an initializer that is not in `ACTIVATIONS` or `INITIALIZERS`.
    """
    used = [layer.activation for layer in layers if isinstance(layer, Dense) and layer.activation]
    checked: list[tuple[str, Collection[str]]] = [*((name, ACTIVATIONS) for name in used), (initializer, INITIALIZERS)]
    for name, table in checked:
        if name not in table:
            raise ConfigError(f"unknown {name!r} for the head{did_you_mean(name, table)}")
    parts: list[nn.Module] = []
    width = inputs
    for layer in layers:
        if isinstance(layer, Dropout):
            parts.append(nn.Dropout(layer.rate))
            continue
        fan_in, width = width, layer.units or outputs
        parts.append(nn.Linear(fan_in, width))
        if layer.activation:
            parts.append(ACTIVATIONS[layer.activation]())
    head = nn.Sequential(*parts)
    initialize(head, initializer)
    return head


def initialize(head: nn.Sequential, initializer: str) -> None:
    """Initialize the linear layers of a head in place, as the entry of `INITIALIZERS` with this name says."""
    set_weight = INITIALIZERS[initializer]
    if set_weight is None:
        return
    linear = [part for part in head if isinstance(part, nn.Linear)]
    for layer in linear:
        set_weight(layer.weight.data)
        layer.bias.data.zero_()
    if initializer == "zeros_last":
        linear[-1].weight.data.zero_()
