"""Pattern images. A class is a small random network that maps a pixel's position to its colour (a CPPN)."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from trainables.pretraining.backgrounds import palette

Field = NDArray[np.float32]

LATENTS = 3
FIELDS = 3
MIN_CONTRAST = 0.18
ACTIVATIONS: tuple[Callable[[Field], Field], ...] = (
    np.tanh,
    np.sin,
    np.cos,
    lambda x: np.exp(-x * x),
    lambda x: np.abs(x) - 1,
    lambda x: np.abs(np.mod(x, 2) - 1) * 2 - 1,
    lambda x: np.sign(x) * np.minimum(np.abs(4 * x), 1),
)


@dataclass(frozen=True)
class PatternClass:
    """A network: `weights` (in, out) of each layer, from (x, y, r, latents, 1) through the hidden layers to `FIELDS` values.

    `units[l]` are pairs (index in `ACTIVATIONS`, the units of hidden layer `l` that have this activation). `frequency` multiplies x, y and
    the distance r to the centre, which are in about [-1, 1]: larger values give finer patterns.
    """

    weights: tuple[Field, ...]
    units: tuple[tuple[tuple[int, slice], ...], ...]
    frequency: float


def draw_pattern_class(rng: np.random.Generator) -> PatternClass:
    """Return a random network of 1 to 3 hidden layers of 8 to 20 units with mixed activations.

    A network is drawn again while the mean standard deviation of its outputs over the image is below `MIN_CONTRAST`.

    Compositional pattern-producing networks: Stanley, Genetic Programming and Evolvable Machines 8(2), 2007.
    """
    while True:
        widths = [3 + LATENTS + 1, *rng.integers(8, 21, int(rng.integers(1, 4))).tolist(), FIELDS]
        weights = tuple(rng.normal(0, 1.5 / np.sqrt(fan_in), (fan_in, fan_out)).astype(np.float32) for fan_in, fan_out in pairwise(widths))
        units = tuple(_assign_activations(width, rng) for width in widths[1:-1])
        network = PatternClass(weights, units, float(np.exp(rng.uniform(np.log(2.5), np.log(7.0)))))
        values = _evaluate(network, network.weights, _coordinates(32, 0.0, np.zeros(2), 1.0), np.zeros(LATENTS))
        if values.std(axis=0).mean() >= MIN_CONTRAST:
            return network


def draw_pattern(network: PatternClass, side: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return one image of the class, (side, side, 3) uint8 RGB: jittered weights, random latents, rotation, shift, zoom and colours."""
    weights = tuple((w * (1 + rng.normal(0, 0.06, w.shape))).astype(np.float32) for w in network.weights)
    places = _coordinates(side, rng.uniform(0, 2 * np.pi), rng.normal(0, 0.15, 2), float(rng.uniform(0.85, 1.2)))
    values = _evaluate(network, weights, places, rng.normal(0, 0.35, LATENTS))
    base, *directions = palette(1 + FIELDS, rng)
    colours = base + (values - 0.5) @ (1.4 * (np.array(directions) - base)).astype(np.float32)
    return np.asarray(255 * np.clip(colours, 0, 1), dtype=np.uint8).reshape(side, side, 3)


def _assign_activations(width: int, rng: np.random.Generator) -> tuple[tuple[int, slice], ...]:
    """Return pairs (index in `ACTIVATIONS`, units) for a layer of `width` units: two to four activations, each for consecutive units."""
    kinds = rng.choice(len(ACTIVATIONS), int(rng.integers(2, 5)), replace=False).tolist()
    edges = np.linspace(0, width, len(kinds) + 1).astype(int).tolist()
    return tuple((kind, slice(low, high)) for kind, (low, high) in zip(kinds, pairwise(edges), strict=True))


def _coordinates(side: int, angle: float, shift: NDArray[np.float64], zoom: float) -> Field:
    """Return the pixels' coordinates, (side * side, 3): x, y and the distance to their origin, in about [-1, 1].

    x and y are first turned by `angle` (radians), multiplied by `zoom`, and shifted.
    """
    rows, columns = np.mgrid[0:side, 0:side] * (2 / (side - 1)) - 1
    x = zoom * (np.cos(angle) * columns - np.sin(angle) * rows) + shift[0]
    y = zoom * (np.sin(angle) * columns + np.cos(angle) * rows) + shift[1]
    return np.stack([x, y, np.hypot(x, y)], axis=-1).reshape(-1, 3).astype(np.float32)


def _evaluate(network: PatternClass, weights: tuple[Field, ...], places: Field, latent: NDArray[np.float64]) -> Field:
    """Return the network's outputs, (pixels, FIELDS) in [0, 1], with these `weights` instead of its own.

    `places`: see `_coordinates`. `latent` (LATENTS,) is the same for all pixels.
    """
    constants = np.broadcast_to(np.append(latent, 1.0).astype(np.float32), (len(places), LATENTS + 1))
    signal = np.concatenate([network.frequency * places, constants], axis=1)
    for weight, units in zip(weights, network.units, strict=False):
        signal = signal @ weight
        for kind, run in units:
            signal[:, run] = ACTIVATIONS[kind](signal[:, run])
    return np.asarray(0.5 + 0.5 * np.sin(2.5 * (signal @ weights[-1])), dtype=np.float32)
