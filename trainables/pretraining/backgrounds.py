"""Random colours and backgrounds, drawn for each image, so that the classes differ by shape and texture and not by colour."""

import cv2
import numpy as np
from numpy.typing import NDArray


def palette(count: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return random RGB colours, (count, 3) in [0, 1]: uniform hues, or shades around one colour."""
    colours = rng.uniform(0, 1, (count, 3))
    if rng.random() < 0.3:
        colours = np.clip(rng.uniform(0, 1, 3) + rng.uniform(-0.6, 0.6, (count, 1)) + 0.1 * colours, 0, 1)
    return colours


def background(side: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return a background, (side, side, 3) in [0, 1]: plain, a linear gradient, or noise from smooth to fine, with equal chances."""
    start, end = rng.uniform(0, 1, (2, 3))
    kind = rng.integers(3)
    if kind == 0:
        blend = np.zeros((side, side))
    elif kind == 1:
        angle = rng.uniform(0, 2 * np.pi)
        rows, columns = np.mgrid[0:side, 0:side] / (side - 1) - 0.5
        blend = np.clip(0.5 + 0.7 * (np.cos(angle) * columns + np.sin(angle) * rows), 0, 1)
    else:
        blend = smooth_noise(side, int(rng.choice([4, 8, 16, 32, side])), rng)
        end = start + 0.5 * (end - start)
    return np.asarray(start + blend[..., None] * (end - start))


def smooth_noise(side: int, cells: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return value noise, (side, side) in [0, 1]: `cells` × `cells` uniform random values, interpolated; more cells give finer noise."""
    grid = rng.uniform(0, 1, (cells, cells)).astype(np.float32)
    return np.clip(cv2.resize(grid, (side, side), interpolation=cv2.INTER_CUBIC), 0, 1).astype(np.float64)
