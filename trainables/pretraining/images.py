"""The mix of the three families: (seed, class, index) -> image, and all images into one array on disk."""

import multiprocessing
import os
from collections.abc import Iterator
from functools import lru_cache, partial
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from trainables.pretraining.fractals import FractalClass, draw_fractal, draw_fractal_class
from trainables.pretraining.leaves import LeafClass, draw_leaf_class, draw_leaves
from trainables.pretraining.patterns import PatternClass, draw_pattern, draw_pattern_class

SIDE = 64
FAMILIES = ("fractal", "pattern", "leaves")
CHUNK = 200


def family_of(class_index: int) -> str:
    """The family of a class: the three take turns."""
    return FAMILIES[class_index % len(FAMILIES)]


def draw_image(seed: int, class_index: int, index: int) -> NDArray[np.uint8]:
    """Image number `index` of a class: (SIDE, SIDE, 3) uint8 RGB, a function of its three arguments alone."""
    rng = np.random.default_rng([seed, class_index, index + 1])
    match _class(seed, class_index):
        case FractalClass() as system:
            return draw_fractal(system, SIDE, rng)
        case PatternClass() as network:
            return draw_pattern(network, SIDE, rng)
        case LeafClass() as kind:
            return draw_leaves(kind, SIDE, rng)


def labels_of(images: int, classes: int) -> NDArray[np.int64]:
    """The class of each image of `write_images`: (images,) int64; classes take turns, so every slice is balanced."""
    return np.arange(images, dtype=np.int64) % classes


def write_images(to: Path, *, seed: int, images: int, classes: int, processes: int) -> Iterator[int]:
    """Draw all images into `to`, an .npy of (images, SIDE, SIDE, 3) uint8; yields how many more are ready as they come.

    The file gets its name when it is complete; the bytes do not depend on `processes`.
    """
    partial_file = to.with_suffix(".partial.npy")
    np.lib.format.open_memmap(partial_file, mode="w+", dtype=np.uint8, shape=(images, SIDE, SIDE, 3)).flush()
    fill = partial(_fill, partial_file, seed, classes)
    chunks = [range(start, min(start + CHUNK, images)) for start in range(0, images, CHUNK)]
    if processes == 1:
        yield from map(fill, chunks)
    else:
        with multiprocessing.get_context("spawn").Pool(processes, initializer=cv2.setNumThreads, initargs=(0,)) as pool:
            yield from pool.imap_unordered(fill, chunks)
    os.replace(partial_file, to)


def _fill(path: Path, seed: int, classes: int, rows: range) -> int:
    array = np.load(path, mmap_mode="r+")
    for row in rows:
        array[row] = draw_image(seed, row % classes, row // classes)
    array.flush()
    return len(rows)


@lru_cache(maxsize=1024)
def _class(seed: int, class_index: int) -> FractalClass | PatternClass | LeafClass:
    """The parameters of a class, drawn from the stream before its image 0 (a zero ends the seed: numpy pads with zeros)."""
    rng = np.random.default_rng([seed, class_index, 0])
    match family_of(class_index):
        case "fractal":
            return draw_fractal_class(rng)
        case "pattern":
            return draw_pattern_class(rng)
        case _:
            return draw_leaf_class(rng)
