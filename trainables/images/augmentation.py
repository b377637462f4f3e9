"""`Augmenter`, random augmentation of images with a strength in [0, 1]. The only module that imports Albumentations."""

import os
import random

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

from collections.abc import Callable, Iterator, Sequence

import albumentations as A
import cv2
import numpy as np

from trainables.errors import ConfigError, did_you_mean
from trainables.images.augmentation_ranges import GREY, Ranges, ranges
from trainables.images.decode import Pixels

cv2.setNumThreads(0)

VERSION: str = A.__version__


def _trivial(s: float) -> Iterator[A.BasicTransform]:
    """Yield the operations of TrivialAugment (Müller & Hutter 2021, table 1) with ranges from none to `s` times the paper's largest.

    An image gets one of them, each as likely, at a random strength. Equalization and full contrast have no strength: they are rarer
    instead, with `s` times the chance of the others.
    """
    yield A.NoOp(p=1)
    yield A.Affine(rotate=(-30 * s, 30 * s), border_mode=cv2.BORDER_REFLECT_101, p=1)
    for axis, other in ("xy", "yx"):
        yield A.Affine(shear={axis: (-17 * s, 17 * s), other: (0, 0)}, border_mode=cv2.BORDER_REFLECT_101, p=1)
        moved = {axis: (-0.31 * s, 0.31 * s), other: (0, 0)}
        yield A.Affine(translate_percent=moved, border_mode=cv2.BORDER_REFLECT_101, p=1)
    for changed in ("brightness", "contrast", "saturation"):
        same = {"brightness": (1, 1), "contrast": (1, 1), "saturation": (1, 1), "hue": (0, 0)}
        yield A.ColorJitter(**same | {changed: (1 - 0.9 * s, 1 + 0.9 * s)}, p=1)
    yield A.Sharpen(alpha=(0, 0.5 * s), lightness=(1, 1), p=1)
    yield A.Posterize(num_bits=(min(7, 8 - round(4 * s)), 7), p=1)
    yield A.Solarize(threshold_range=(1 - s, 1), p=1)
    yield A.AutoContrast(method="pil", p=s)
    yield A.Equalize(mode="pil", p=s)


OPS: dict[str, Callable[[float, int, Ranges], A.BasicTransform | A.BaseCompose]] = {
    "crop": lambda s, size, r: A.RandomResizedCrop(size=(size, size), scale=r.crop_area, ratio=r.crop_ratio),
    "flip": lambda s, size, r: A.HorizontalFlip(p=r.flip_chance),
    "vertical_flip": lambda s, size, r: A.VerticalFlip(p=r.flip_chance),
    "affine": lambda s, size, r: A.Affine(
        rotate=r.rotation,
        shear=r.shear,
        scale=r.zoom,
        translate_percent=r.shift,
        border_mode=cv2.BORDER_REFLECT_101,
        p=r.affine_chance,
    ),
    "color": lambda s, size, r: A.ColorJitter(
        brightness=r.brightness, contrast=r.contrast, saturation=r.saturation, hue=r.hue, p=r.color_chance
    ),
    "noise": lambda s, size, r: A.OneOf(
        [A.GaussNoise(std_range=r.noise), A.GaussianBlur(blur_limit=0, sigma_limit=r.blur)], p=r.noise_chance
    ),
    "trivial": lambda s, size, r: A.OneOf([*_trivial(s)], p=1),
    "dropout": lambda s, size, r: A.CoarseDropout(
        num_holes_range=r.holes, hole_height_range=r.hole_side, hole_width_range=r.hole_side, fill=GREY, p=r.dropout_chance
    ),
}
"""Operation → function (s, size, ranges at s) that returns its transform at strength `s` in (0, 1] for squares of `size` pixels.

The operations are applied in this order."""


class Augmenter:
    """Turns a stored image, `(S, S, 3) uint8`, into an augmented view, `(size, size, 3) uint8`, drawn at random for each seed.

    `ops` are keys of `OPS`. Strength 0 gives the centre crop, as evaluation does. Each thread needs an instance of its own.
    Raises ``ConfigError`` for an unknown operation or a strength outside [0, 1].
    """

    def __init__(self, strength: float, ops: Sequence[str], size: int) -> None:
        if not 0 <= strength <= 1:
            raise ConfigError(f"augmentation_strength must be in [0, 1] but got {strength}")
        for op in ops:
            if op not in OPS:
                raise ConfigError(f"unknown augmentation op {op!r}{did_you_mean(op, OPS)}")
        chosen = [op for op in OPS if op in ops] if strength else []
        parts: list[A.BasicTransform | A.BaseCompose] = [] if "crop" in chosen else [A.CenterCrop(size, size)]
        parts += [OPS[op](strength, size, ranges(strength)) for op in chosen]
        self._pipeline = A.Compose(parts)
        self._draws = bool(chosen)

    def __call__(self, image: Pixels, seed: int) -> Pixels:
        """Return the augmented view of an image; equal seeds give equal views."""
        if self._draws:  # one stream for all operations: `set_random_seed` would start each of them at the same number
            self._pipeline.set_random_state(np.random.default_rng(seed), random.Random(seed))
        augmented: Pixels = self._pipeline(image=image)["image"]
        return augmented


def sample_seed(seed: int, epoch: int, sample: int) -> int:
    """Return a 32-bit seed for one view of one image: a hash of the three numbers, so that all views are drawn independently."""
    return int(np.random.SeedSequence((seed, epoch, sample)).generate_state(1)[0])
