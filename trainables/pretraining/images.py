"""Drawing of the pretraining images: one by seed, class and index (`draw_image`), or all into one file (`write_images`)."""

import multiprocessing
from collections.abc import Iterator
from functools import lru_cache, partial
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from trainables.pretraining.fractals import FractalClass, draw_fractal, draw_fractal_class
from trainables.pretraining.leaves import LeafClass, draw_leaf_class, draw_leaves
from trainables.pretraining.patterns import PatternClass, draw_pattern, draw_pattern_class
from trainables.storage.atomic_write import remove_temporaries, temporary_path

SIDE = 64
FAMILIES = ("fractal", "pattern", "leaves")
CHUNK = 200


def family_of(class_index: int) -> str:
    """Return the family of a class, one of `FAMILIES`; consecutive classes take the families in turn."""
    return FAMILIES[class_index % len(FAMILIES)]


def draw_image(seed: int, class_index: int, index: int) -> NDArray[np.uint8]:
    """Return image number `index` of a class, (SIDE, SIDE, 3) uint8 RGB. It depends on the three arguments alone."""
    rng = np.random.default_rng([seed, class_index, index + 1])
    match _class(seed, class_index):
        case FractalClass() as system:
            return draw_fractal(system, SIDE, rng)
        case PatternClass() as network:
            return draw_pattern(network, SIDE, rng)
        case LeafClass() as kind:
            return draw_leaves(kind, SIDE, rng)


def labels_of(images: int, classes: int) -> NDArray[np.int64]:
    """Return the class of each image of `write_images`, (images,) int64: 0, 1, ..., classes - 1, 0, 1, ..., so that slices are balanced."""
    return np.arange(images, dtype=np.int64) % classes


def write_images(to: Path, *, seed: int, images: int, classes: int, processes: int) -> Iterator[int]:
    """Draw all images into `to`, an .npy file of (images, SIDE, SIDE, 3) uint8. Yields the number of images of
    each chunk when it is done.

    The file appears under its name when it is complete. Its bytes do not depend on `processes`.
    """
    remove_temporaries(to)
    temporary = temporary_path(to)
    try:
        np.lib.format.open_memmap(temporary, mode="w+", dtype=np.uint8, shape=(images, SIDE, SIDE, 3)).flush()
        draw = partial(_draw_rows, temporary, seed, classes)
        chunks = [range(start, min(start + CHUNK, images)) for start in range(0, images, CHUNK)]
        if processes == 1:
            yield from map(draw, chunks)
        else:
            with multiprocessing.get_context("spawn").Pool(processes, initializer=cv2.setNumThreads, initargs=(0,)) as pool:
                yield from pool.imap_unordered(draw, chunks)
        temporary.replace(to)
    finally:
        temporary.unlink(missing_ok=True)


def _draw_rows(path: Path, seed: int, classes: int, rows: range) -> int:
    array = np.load(path, mmap_mode="r+")
    for row in rows:
        array[row] = draw_image(seed, row % classes, row // classes)
    array.flush()
    return len(rows)


@lru_cache(maxsize=1024)
def _class(seed: int, class_index: int) -> FractalClass | PatternClass | LeafClass:
    """Return the random parameters of a class. Their seed ends in 0, and those of its images in 1 and more, so that the streams differ."""
    rng = np.random.default_rng([seed, class_index, 0])
    match family_of(class_index):
        case "fractal":
            return draw_fractal_class(rng)
        case "pattern":
            return draw_pattern_class(rng)
        case _:
            return draw_leaf_class(rng)
