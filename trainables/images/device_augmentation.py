"""`DeviceAugmenter`, which augments whole batches with PyTorch on the device that holds them."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from trainables.images.augmentation_ranges import GREY, Range, Ranges, ranges
from trainables.images.draws import Draws, Floats

VERSION = "device 1"
"""A change of what is drawn or computed changes it."""
GREY_WEIGHTS = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in the grey value (ITU-R BT.601), as in OpenCV."""
GEOMETRY = ("crop", "flip", "vertical_flip", "affine")
BLUR_RADIUS = 3.5
"""Radius of the Gaussian's kernel, in its standard deviations, as in Albumentations and Pillow."""


class DeviceAugmenter:
    """Turns stored images `(B, 3, S, S)`, of values 0 to 255, into augmented views `(B, 3, size, size) float32` of values 0 to 255.

    It has the operations of `OPS` (all but ``trivial``), with the ranges and chances that `Augmenter` has. Crop, flips and affine
    map are one interpolation here, colour changes come in one order, and values are not rounded in between; the views are others than
    `Augmenter`'s. `strength` is in [0, 1]; strength 0 gives the centre crop.
    """

    def __init__(self, strength: float, ops: Sequence[str], size: int) -> None:
        self._ops, self._size, self._ranges = frozenset(ops if strength else ()), size, ranges(strength)

    def __call__(self, images: Tensor, draws: Draws) -> Tensor:
        """Return a view of each image, from the random numbers `draws` of the images."""
        views = self._moved(images, draws)
        for op, change in CHANGES.items():
            if op in self._ops:
                views = change(views, self._ranges, draws)
        return views

    def _moved(self, images: Tensor, draws: Draws) -> Tensor:
        """Return crops of the images, flipped, rotated, sheared, zoomed and shifted.

        Coordinates are -1 at one edge of a square and 1 at the other, first x, then y. The inverse maps are applied to the pixels of
        the view, from the last operation to the first.
        """
        count, side = len(draws), images.shape[-1]
        boxes = self._boxes(draws, side)
        mirror = np.stack([_signs(draws, self._ranges.flip_chance if op in self._ops else 0) for op in ("flip", "vertical_flip")], 1)
        turn, shift = _affine(draws, self._ranges) if "affine" in self._ops else (np.tile(np.eye(2), (count, 1, 1)), np.zeros((count, 2)))
        numbers = np.concatenate([boxes, mirror, turn.reshape(count, 4), shift], 1)
        numbers_there = torch.from_numpy(numbers.astype(np.float32)).to(images.device)
        middle, half, mirrored, inverse, shifted = (part.view(count, 1, 1, -1) for part in numbers_there.split((2, 2, 2, 4, 2), dim=1))
        axis = (torch.arange(self._size, device=images.device) + 0.5) * (2 / self._size) - 1
        places = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), dim=-1) - shifted
        places = places @ inverse.view(count, 1, 2, 2).mT
        edge = 1 - 1 / self._size  # the middle of the last pixel, about which the image is reflected
        places = edge - ((places + edge).remainder(4 * edge) - 2 * edge).abs()
        return F.grid_sample(images.float(), middle + places * mirrored * half, padding_mode="border", align_corners=False)

    def _boxes(self, draws: Draws, side: int) -> Floats:
        """Return the middle (x, y) and half the width and height of each image's crop, `(B, 4)`, in coordinates from -1 to 1."""
        count = len(draws)
        if "crop" not in self._ops:
            start = (side - self._size) // 2
            middle = (2 * start + self._size) / side - 1
            return np.tile([middle, middle, self._size / side, self._size / side], (count, 1))
        area = draws.uniform(self._ranges.crop_area)
        low, high = self._ranges.crop_ratio
        ratio = np.exp(draws.uniform((math.log(low), math.log(high))))
        half = np.sqrt(np.stack([area * ratio, area / ratio], 1)).clip(max=1)
        return np.concatenate([draws.uniform((-1, 1), count=2) * (1 - half), half], 1)


def _signs(draws: Draws, chance: float) -> Floats:
    """Return -1 for the samples that are mirrored, and 1 for the others."""
    return np.where(draws.chance(chance), -1.0, 1.0)


def _affine(draws: Draws, r: Ranges) -> tuple[NDArray[np.float64], Floats]:
    """Return the inverse of each image's matrix `(B, 2, 2)`, and its shift `(B, 2)`, for coordinates from -1 to 1.

    The matrix zooms, then rotates, then shears.
    """
    applied = draws.chance(r.affine_chance)[:, None]
    angle = np.deg2rad(draws.uniform(r.rotation))
    shear = np.tan(np.deg2rad(draws.uniform(r.shear, count=2)))
    zoom, shift = draws.uniform(r.zoom, count=2), 2 * draws.uniform(r.shift, count=2)
    rotated = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]).transpose(2, 0, 1)
    sheared = np.tile(np.eye(2), (len(draws), 1, 1))
    sheared[:, 0, 1], sheared[:, 1, 0] = shear[:, 0], shear[:, 1]
    matrix = sheared @ rotated * zoom[:, None, :]
    return np.linalg.inv(np.where(applied[:, None], matrix, np.eye(2))), np.where(applied, shift, 0.0)


def _colored(images: Tensor, r: Ranges, draws: Draws) -> Tensor:
    """Change brightness, contrast, saturation and hue, in this order."""
    applied = draws.chance(r.color_chance)

    def factor(between: Range, neutral: float) -> Tensor:
        values = np.where(applied, draws.uniform(between), neutral).astype(np.float32)
        return torch.from_numpy(values).to(images.device).view(-1, 1, 1, 1)

    brightness, contrast, saturation = (factor(between, 1) for between in (r.brightness, r.contrast, r.saturation))
    images = (images * brightness).clamp(0, 255)
    images = torch.lerp(_grey(images).mean((2, 3), keepdim=True), images, contrast).clamp(0, 255)
    images = torch.lerp(_grey(images), images, saturation).clamp(0, 255)
    return _with_hue(images, factor(r.hue, 0))


def _grey(images: Tensor) -> Tensor:
    weights = torch.tensor(GREY_WEIGHTS, device=images.device).view(1, 3, 1, 1)
    return (images * weights).sum(1, keepdim=True)


def _with_hue(images: Tensor, turn: Tensor) -> Tensor:
    """Turn the hue by a share of the colour circle: from RGB to HSV (Smith 1978) and back."""
    red, green, blue = images.unbind(1)
    value, low = images.amax(1), images.amin(1)
    chroma = value - low
    safe = torch.where(chroma > 0, chroma, 1)
    sixth = torch.where(
        value == red,
        (green - blue) / safe,
        torch.where(value == green, (blue - red) / safe + 2, (red - green) / safe + 4),
    )
    sixth = (sixth + 6 * turn.squeeze(1)).unsqueeze(1) + torch.tensor([5.0, 3.0, 1.0], device=images.device).view(1, 3, 1, 1)
    sixth = sixth.remainder(6)
    return value.unsqueeze(1) - chroma.unsqueeze(1) * torch.minimum(sixth, 4 - sixth).clamp(0, 1)


def _noisy(images: Tensor, r: Ranges, draws: Draws) -> Tensor:
    """Give some images normal noise, and blur others."""
    applied, blurred = draws.chance(r.noise_chance), draws.chance(0.5)
    noise, blur, seeds = 255 * draws.uniform(r.noise), draws.uniform(r.blur), draws.seeds()
    noisy, soft = np.flatnonzero(applied & ~blurred), np.flatnonzero(applied & blurred)
    if len(noisy):
        images = _with(images, noisy, _with_noise(images[noisy], noise[noisy], seeds[noisy]))
    if len(soft):
        images = _with(images, soft, _blurred(images[soft], blur[soft]))
    return images


def _with(images: Tensor, rows: NDArray[np.int64], changed: Tensor) -> Tensor:
    return images.index_copy(0, torch.from_numpy(rows).to(images.device), changed)


def _with_noise(images: Tensor, widths: Floats, seeds: NDArray[np.int64]) -> Tensor:
    generator = torch.Generator(images.device)
    noise = torch.stack(
        [
            width * torch.randn(images.shape[1:], generator=generator.manual_seed(int(seed)), device=images.device)
            for width, seed in zip(widths, seeds, strict=True)
        ]
    )
    return (images + noise).clamp(0, 255)


def _blurred(images: Tensor, widths: Floats) -> Tensor:
    """Blur each image with a Gaussian of its own standard deviation, in pixels."""
    count, channels, side, _ = images.shape
    radius = min(int(BLUR_RADIUS * widths.max()), side - 1)
    offsets = np.arange(-radius, radius + 1)
    weights = np.exp(-0.5 * (offsets / widths[:, None]) ** 2) * (abs(offsets) <= np.floor(BLUR_RADIUS * widths[:, None]))
    weights = np.repeat(weights / weights.sum(1, keepdims=True), channels, axis=0)
    kernel = torch.from_numpy(weights.astype(np.float32)).to(images.device)
    planes = F.pad(images.reshape(1, count * channels, side, side), [radius] * 4, mode="reflect")
    for shape in ((-1, 1, 2 * radius + 1, 1), (-1, 1, 1, 2 * radius + 1)):
        planes = F.conv2d(planes, kernel.view(shape), groups=count * channels)
    return planes.view(images.shape)


def _with_holes(images: Tensor, r: Ranges, draws: Draws) -> Tensor:
    """Put grey rectangles on some images."""
    (fewest, most), size = r.holes, images.shape[-1]
    count = np.where(draws.chance(r.dropout_chance), draws.integer(fewest, most), 0)
    sides = np.floor(size * draws.uniform(r.hole_side, count=2 * most))
    starts = np.floor(draws.uniform(count=2 * most) * (size - sides + 1))
    sides = sides * np.tile(np.arange(most) < count[:, None], (1, 2))
    bounds = torch.from_numpy(np.stack([starts, starts + sides]).astype(np.float32)).to(images.device)
    axis = torch.arange(size, device=images.device)
    inside = (axis >= bounds[0, :, :, None]) & (axis < bounds[1, :, :, None])
    rows, columns = inside.split(most, dim=1)
    return images.masked_fill((rows[..., None] & columns[:, :, None]).any(1, keepdim=True), GREY)


CHANGES: dict[str, Callable[[Tensor, Ranges, Draws], Tensor]] = {"color": _colored, "noise": _noisy, "dropout": _with_holes}
"""Operation → function that changes the values of views. They follow, in this order, the operations that move pixels."""
DEVICE_OPS = frozenset(GEOMETRY) | frozenset(CHANGES)
"""The operations that `DeviceAugmenter` has."""
