"""Fractal images. A class is a random iterated function system (IFS); its images show the attractor."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainables.pretraining.backgrounds import background, palette

PARTICLES = 1536
WARM_UP = 14
RECORDED = 14
MIN_FILL = 0.16
FILL_GRID = 32


@dataclass(frozen=True)
class FractalClass:
    """One IFS of K affine maps x → maps[k] x + shifts[k]; `chances` are the probabilities with which the chaos game picks a map.

    Shapes: `maps` (K, 2, 2), `shifts` (K, 2), `chances` (K,).
    """

    maps: NDArray[np.float64]
    shifts: NDArray[np.float64]
    chances: NDArray[np.float64]


def draw_fractal_class(rng: np.random.Generator) -> FractalClass:
    """Return a random IFS of 2 to 8 contractions whose attractor fills at least the share `MIN_FILL` of a square grid around it.

    The filling-rate filter is FractalDB's (Kataoka et al., "Pre-training without Natural Images", ACCV 2020, section 3.1).
    """
    while True:
        system = _draw_system(rng)
        points, _ = _chaos_game(system, np.eye(len(system.maps), 3), rng)
        cells = np.unique(_to_pixels(points, FILL_GRID, margin=0.0) @ np.array([FILL_GRID, 1]))
        if len(cells) >= MIN_FILL * FILL_GRID**2:
            return system


def draw_fractal(system: FractalClass, side: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return one image of the class, (side, side, 3) uint8 RGB: jittered maps, random rotation, place, size, colours and background.

    A point's colour is the exponential mean of the colours of the maps that led to it (Draves & Reckase, "The Fractal Flame Algorithm",
    2003, section 4); its opacity grows with the logarithm of the density.
    """
    points, colours = _chaos_game(_jitter(system, rng), palette(len(system.maps), rng), rng)
    angle = rng.uniform(0, 2 * np.pi)
    pixels = _to_pixels(points @ _rotations(np.array([angle]))[0].T, side, margin=rng.uniform(0.0, 0.2))
    pixels = pixels + rng.integers(-side // 12, side // 12 + 1, 2)
    inside = ((pixels >= 0) & (pixels < side)).all(axis=1)
    cells = pixels[inside] @ np.array([side, 1])
    density = np.bincount(cells, minlength=side * side)
    sums = np.stack([np.bincount(cells, weights=channel, minlength=side * side) for channel in colours[inside].T], axis=1)
    mean_colour = sums / np.maximum(density, 1)[:, None]
    opacity = np.clip(np.log1p(density) / np.log1p(rng.uniform(4, 16)), 0, 1)[:, None]
    blended = opacity * mean_colour + (1 - opacity) * background(side, rng).reshape(-1, 3)
    return np.asarray(255 * np.clip(blended, 0, 1), dtype=np.uint8).reshape(side, side, 3)


def _draw_system(rng: np.random.Generator) -> FractalClass:
    """Return an IFS of K maps R(a) diag(s1, s2) R(b) diag(±1, ±1) whose singular values obey sum(s1 + 2 s2) in [(5 + K) / 2, (6 + K) / 2].

    Attractors under this law are rarely points or dust (Anderson & Farrell, "Improving Fractal Pre-training", WACV 2022, section 3.2).
    """
    count = int(rng.integers(2, 9))
    while True:
        singular = np.sort(rng.uniform(0, 1, (count, 2)), axis=1)[:, ::-1]
        if 5 + count <= 2 * (singular @ np.array([1.0, 2.0])).sum() <= 6 + count:
            break
    left, right = (_rotations(rng.uniform(0, 2 * np.pi, count)) for _ in range(2))
    signs = rng.choice([-1.0, 1.0], (count, 2))
    maps = left @ (singular[:, :, None] * right) * signs[:, None, :]
    weights = np.maximum(singular.prod(axis=1), 0.01)
    return FractalClass(maps, rng.uniform(-1, 1, (count, 2)), weights / weights.sum())


def _jitter(system: FractalClass, rng: np.random.Generator) -> FractalClass:
    """Return a copy with each map turned by a few degrees, shrunk by up to 8 % (so that it stays a contraction) and slightly shifted."""
    count = len(system.maps)
    turns = _rotations(rng.normal(0, 0.06, count))
    shrink = rng.uniform(0.92, 1.0, (count, 1, 1))
    return FractalClass(turns @ system.maps * shrink, system.shifts + rng.normal(0, 0.04, (count, 2)), system.chances)


def _chaos_game(
    system: FractalClass, map_colours: NDArray[np.float64], rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return P points on the attractor, (P, 2), and their colours, (P, 3); `map_colours`, (K, 3), are those of the maps.

    Many particles take few steps, because numpy then works on large arrays.
    """
    picks = rng.choice(len(system.maps), (WARM_UP + RECORDED, PARTICLES), p=system.chances)
    where, colour = np.zeros((PARTICLES, 2)), np.full((PARTICLES, 3), 0.5)
    points, colours = np.empty((RECORDED, PARTICLES, 2)), np.empty((RECORDED, PARTICLES, 3))
    for step, pick in enumerate(picks):
        maps = system.maps[pick]
        where = maps[:, :, 0] * where[:, :1] + maps[:, :, 1] * where[:, 1:] + system.shifts[pick]
        colour = (colour + map_colours[pick]) / 2
        if step >= WARM_UP:
            points[step - WARM_UP], colours[step - WARM_UP] = where, colour
    return points.reshape(-1, 2), colours.reshape(-1, 3)


def _to_pixels(points: NDArray[np.float64], side: int, margin: float) -> NDArray[np.int64]:
    """Return the points' rows and columns, (P, 2), scaled so that the middle 99 % of them fit a square of `side` pixels, centred.

    `margin`, a share of the side, stays free. With margin 0 outer points are moved to the edge; else they may lie outside.
    """
    low, high = np.quantile(points[::7], [0.005, 0.995], axis=0)
    scale = (1 - margin) * (side - 1) / max(float((high - low).max()), 1e-6)
    pixels = np.rint((points - (low + high) / 2) * scale + (side - 1) / 2)
    low_limit, high_limit = (-side, 2 * side) if margin else (0, side - 1)
    return np.asarray(np.clip(pixels, low_limit, high_limit), dtype=np.int64)


def _rotations(angles: NDArray[np.float64]) -> NDArray[np.float64]:
    cos, sin = np.cos(angles), np.sin(angles)
    return np.stack([np.stack([cos, -sin], -1), np.stack([sin, cos], -1)], -2)
