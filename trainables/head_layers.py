"""Reads a head that is given as a list of layers, such as ``dense 256 relu``, ``dropout 0.3``, ``dense``. Light to import."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from trainables.errors import did_you_mean

EXAMPLE = "[dense 256 relu, dropout 0.3, dense]"
FEWEST_UNITS, MOST_UNITS = 8, 8192


@dataclass(frozen=True)
class Dense:
    """A linear layer of `units` neurons, or of as many as the task has outputs (None), and the activation after it, if there is one."""

    units: int | None = None
    activation: str | None = None


@dataclass(frozen=True)
class Dropout:
    """Sets the share `rate` of the values to 0 while the network trains."""

    rate: float


def read_layers(lines: Sequence[str], activations: Collection[str]) -> tuple[Dense | Dropout, ...]:
    """Return the layers of a head from its lines, in the way of Keras' Sequential; see the module. `activations` are the known ones.

    The last layer is ``dense`` alone: the task says how many outputs it has. Raises ``ValueError`` with what is wrong and an example.
    """
    if not lines:
        raise ValueError(f"an empty list has no layer; end it with dense, such as {EXAMPLE}")
    layers = tuple(_read_layer(line, activations) for line in lines)
    last = layers[-1]
    if last != Dense():
        raise ValueError(f"the last layer must be dense without a size, because the task says how many outputs it has; got {lines[-1]!r}")
    for line, layer in zip(lines[:-1], layers, strict=False):
        if isinstance(layer, Dense) and layer.units is None:
            raise ValueError(f"only the last dense has no number of neurons, but got {line!r} before it, such as dense 256 relu")
    return layers


def _read_layer(line: str, activations: Collection[str]) -> Dense | Dropout:
    name, *options = line.split() or [""]
    if name not in READERS:
        raise ValueError(f"unknown layer {line!r}{did_you_mean(name, READERS)}")
    return READERS[name](line, options, activations)


def _read_dense(line: str, options: list[str], activations: Collection[str]) -> Dense:
    if not options:
        return Dense()
    units, *rest = options
    if not units.isdecimal() or not FEWEST_UNITS <= int(units) <= MOST_UNITS:
        raise ValueError(f"a dense layer has {FEWEST_UNITS} to {MOST_UNITS} neurons, such as dense 256, but got {line!r}")
    if len(rest) > 1:
        raise ValueError(f"a dense layer has a number of neurons and an activation, such as dense 256 relu, but got {line!r}")
    if rest and rest[0] not in activations:
        raise ValueError(f"unknown activation {rest[0]!r} in {line!r}{did_you_mean(rest[0], activations)}")
    return Dense(int(units), rest[0] if rest else None)


def _read_dropout(line: str, options: list[str], activations: Collection[str]) -> Dropout:
    try:
        rate = float(*options)
    except (ValueError, TypeError):
        rate = -1.0
    if not options or not 0 <= rate < 1:
        raise ValueError(f"dropout has a share from 0 to below 1, such as dropout 0.3, but got {line!r}")
    return Dropout(rate)


READERS: dict[str, Callable[[str, list[str], Collection[str]], Dense | Dropout]] = {"dense": _read_dense, "dropout": _read_dropout}
"""Name of a layer → function (the whole line, its words after the name, known activations) that returns the layer."""
