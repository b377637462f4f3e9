"""Dead-leaves images: many overlapping copies of one shape. A class is a shape, a distribution of sizes and a texture."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from trainables.pretraining.backgrounds import background, palette, smooth_noise

OVERSAMPLING = 2
OUTLINE_POINTS = 40
MAX_LEAVES = 250
TEXTURES = ("plain", "stripes", "checker", "rings", "dots", "noise")


@dataclass(frozen=True)
class LeafClass:
    """A class of dead-leaves images: a shape, a distribution of sizes and a texture.

    `lobes` and `exponents` are the parameters of the superformula. `aspect` is width / height. `hole` is the share of the radius that is
    cut out of the middle (0: none). `radii` are the smallest and the largest radius, as shares of the image's side; their density is
    radius ** -`power`. An image has about `leaves` leaves, within 25 %. `texture` is one of `TEXTURES`, `period` its period as a share of
    the side. `colours` is the number of colour pairs of an image. With `aligned` all leaves point about the same way. `shading`, in
    [0, 1), is the share by which a leaf gets darker from one end to the other.
    """

    lobes: int
    exponents: tuple[float, float, float]
    aspect: float
    hole: float
    radii: tuple[float, float]
    power: float
    leaves: int
    texture: str
    period: float
    colours: int
    aligned: bool
    shading: float


def draw_leaf_class(rng: np.random.Generator) -> LeafClass:
    """Return a random class: discs, polygons, stars and flowers, of one size or of many, sparse or covering the image."""
    smallest = rng.uniform(0.03, 0.1)
    largest = smallest * np.exp(rng.uniform(np.log(1.3), np.log(5.0)))
    cover = np.exp(rng.uniform(np.log(0.5), np.log(5.0)))
    typical = np.sqrt(smallest * largest)
    return LeafClass(
        lobes=int(rng.choice([0, 2, 3, 4, 5, 6, 7, 8])),
        exponents=(float(np.exp(rng.uniform(-1.2, 1.5))), float(rng.uniform(0.6, 3)), float(rng.uniform(0.6, 3))),
        aspect=float(np.exp(rng.choice([0.0, rng.uniform(0.3, 1.3)]))),
        hole=float(rng.choice([0.0, 0.0, rng.uniform(0.4, 0.75)])),
        radii=(float(smallest), float(largest)),
        power=float(rng.uniform(1, 3)),
        leaves=int(np.clip(cover / (np.pi * typical**2), 6, MAX_LEAVES)),
        texture=str(rng.choice(TEXTURES)),
        period=float(np.exp(rng.uniform(np.log(0.05), np.log(0.16)))),
        colours=int(rng.integers(2, 9)),
        aligned=bool(rng.random() < 0.35),
        shading=float(rng.choice([0.0, rng.uniform(0.3, 0.9)])),
    )


def draw_leaves(kind: LeafClass, side: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return one image of the class, (side, side, 3) uint8 RGB, with random places, sizes and colours.

    The model and its power law of radii: Lee, Mumford & Huang, "Occlusion Models for Natural Images", IJCV 41, 2001.
    """
    fine = OVERSAMPLING * side
    count = max(4, int(kind.leaves * rng.uniform(0.75, 1.25)))
    count = min(count, MAX_LEAVES)
    centres = rng.uniform(-0.05, 1.05, (count, 2)) * fine
    radii = fine * _power_law(kind.radii, kind.power, rng.uniform(0, 1, count))
    angles = rng.uniform(0, 2 * np.pi) + (rng.normal(0, 0.12, count) if kind.aligned else rng.uniform(0, 2 * np.pi, count))
    labels = _stack(_outline(kind, rng), centres, radii, angles, kind.hole, fine)
    light, dark = palette(kind.colours, rng), palette(kind.colours, rng)
    picks = rng.integers(kind.colours, size=count)
    colours = np.stack([light[picks], dark[picks]], axis=1)
    image = background(fine, rng)
    covered = labels > 0
    leaf = labels[covered] - 1
    offsets = np.argwhere(covered)[:, ::-1] - centres[leaf]
    cos, sin = np.cos(angles)[leaf], np.sin(angles)[leaf]
    along, across = cos * offsets[:, 0] + sin * offsets[:, 1], cos * offsets[:, 1] - sin * offsets[:, 0]
    noise = smooth_noise(fine, max(4, int(2 / kind.period)), rng)[covered]
    blend = _texture(kind.texture, along / (kind.period * fine), across / (kind.period * fine), noise)[:, None]
    shade = 1 - kind.shading * (0.5 + 0.5 * np.clip(along / radii[leaf], -1, 1))[:, None]
    image[covered] = (colours[leaf, 0] * (1 - blend) + colours[leaf, 1] * blend) * shade
    small = cv2.resize(image.astype(np.float32), (side, side), interpolation=cv2.INTER_AREA)
    return np.asarray(255 * np.clip(small, 0, 1), dtype=np.uint8)


def _power_law(bounds: tuple[float, float], power: float, uniform: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a radius for each uniform number in [0, 1], with density r ** -power between the bounds (power 1: log-uniform)."""
    low, high = bounds
    rest = 1 - power
    if abs(rest) < 1e-3:
        return np.asarray(low * (high / low) ** uniform)
    return np.asarray((low**rest + uniform * (high**rest - low**rest)) ** (1 / rest))


def _outline(kind: LeafClass, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return the x and y of the shape's outline, (OUTLINE_POINTS, 2), in units of the leaf's radius, slightly jittered.

    The superformula: Gielis, "A generic geometric transformation that unifies a wide range of natural and abstract shapes", 2003.
    """
    theta = np.linspace(0, 2 * np.pi, OUTLINE_POINTS, endpoint=False)
    first, second, third = np.array(kind.exponents) * (1 + rng.normal(0, 0.04, 3))
    turn = kind.lobes * theta / 4
    radius = (np.abs(np.cos(turn)) ** second + np.abs(np.sin(turn)) ** third) ** (-1 / first)
    outline = np.stack([radius * np.cos(theta), radius * np.sin(theta)], axis=1) / radius.max()
    return np.asarray(outline * np.array([1.0, 1 / (kind.aspect * (1 + rng.normal(0, 0.04)))]))


def _stack(
    outline: NDArray[np.float64],
    centres: NDArray[np.float64],
    radii: NDArray[np.float64],
    angles: NDArray[np.float64],
    hole: float,
    side: int,
) -> NDArray[np.uint8]:
    """Return which leaf is on top at each pixel, (side, side) uint8: 0 for none, i + 1 for leaf i; later leaves cover earlier ones.

    `outline`: see `_outline`. `centres` (L, 2) and `radii` (L,) are in pixels, `angles` (L,) in radians; `hole`: see `LeafClass`.
    """
    labels = np.zeros((side, side), np.uint8)
    turned_x = np.cos(angles)[:, None] * outline[:, 0] - np.sin(angles)[:, None] * outline[:, 1]
    turned_y = np.sin(angles)[:, None] * outline[:, 0] + np.cos(angles)[:, None] * outline[:, 1]
    turned = radii[:, None, None] * np.stack([turned_x, turned_y], axis=-1)
    outer = np.rint(centres[:, None] + turned).astype(np.int32)
    inner = np.rint(centres[:, None] + hole * turned).astype(np.int32)
    for leaf in range(len(outer)):
        cv2.fillPoly(labels, [outer[leaf], inner[leaf]] if hole else [outer[leaf]], leaf + 1)
    return labels


def _texture(name: str, u: NDArray[np.float64], v: NDArray[np.float64], noise: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the share of a leaf's second colour at each pixel, (P,) in [0, 1], for one of `TEXTURES`.

    `u` and `v` are the pixels' positions on their leaves, in periods of the texture; `noise`, in [0, 1], is the value noise there.
    """
    match name:
        case "stripes":
            return np.asarray(np.mod(u, 1) < 0.5, dtype=np.float64)
        case "checker":
            return np.asarray(np.mod(np.floor(2 * u) + np.floor(2 * v), 2))
        case "rings":
            return np.asarray(np.mod(np.hypot(u, v), 1) < 0.5, dtype=np.float64)
        case "dots":
            return np.asarray(np.hypot(np.mod(u, 1) - 0.5, np.mod(v, 1) - 0.5) < 0.3, dtype=np.float64)
        case "noise":
            return np.clip(2 * noise - 0.5, 0, 1)
        case _:
            return np.zeros_like(u)
