"""`Batches`, which makes batches from the pixel map: it orders, augments and normalises images, and copies them to the device."""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainables.distributed.world import ALONE, World
from trainables.images.augmentation import VERSION as CPU_VERSION
from trainables.images.augmentation import Augmenter, sample_seed
from trainables.images.decode import Pixels
from trainables.images.device_augmentation import DEVICE_OPS, DeviceAugmenter
from trainables.images.device_augmentation import VERSION as DEVICE_VERSION
from trainables.images.device_images import DeviceImages, to_device
from trainables.images.draws import Draws

Rows = NDArray[np.int64]  # indices of images
Weights = NDArray[np.float64]
Batch = tuple[Tensor, Tensor]  # images (B, 3, size, size), targets (B,) or (B, K)
Part = tuple[Rows, Rows, int]  # rows of one batch, a number for each that seeds its augmentation, and the number of the view
AHEAD = 2
"""Batches that are prepared in advance for each worker thread."""


class Batches:
    """Batches of the images `(N, S, S, 3) uint8` of a pixel map and their targets, `(N,)` or `(N, K)`, on a device.

    A batch holds images `(B, 3, image_size, image_size) float32` in channels-last memory, normalised by `mean` and `std` (of each channel,
    for values in [0, 1]), and targets. `workers` is the number of augmenting threads (0: the caller's); batches do not depend on it.
    A GPU augments whole batches itself, if it has all operations that are asked for; see `DeviceAugmenter`. `augments_on_device` decides
    otherwise whether the device does. The views are then others, drawn in the same way.
    """

    def __init__(
        self,
        images: NDArray[np.uint8],
        targets: NDArray[np.generic],
        *,
        image_size: int,
        mean: Sequence[float],
        std: Sequence[float],
        device: torch.device,
        workers: int = 0,
        augments_on_device: bool | None = None,
    ) -> None:
        self._images, self._targets, self._size, self.device, self._workers = images, targets, image_size, device, workers
        self._on_device = device.type == "cuda" if augments_on_device is None else augments_on_device
        self._there = DeviceImages(images, device)
        self._mean = (torch.tensor(mean) * 255).view(1, 3, 1, 1).to(device)
        self._std = (torch.tensor(std) * 255).view(1, 3, 1, 1).to(device)

    def training(
        self,
        rows: Rows,
        batch_size: int,
        *,
        strength: float,
        ops: Sequence[str],
        seed: int,
        epoch: int,
        passes: int = 1,
        world: World = ALONE,
        weights: Weights | None = None,
    ) -> Iterator[Batch]:
        """Yield the batches of one epoch: `passes` shuffled passes over the images `rows`, full batches only, newly augmented in each pass.

        `strength` and `ops` are those of `Augmenter`; `epoch` counts from 1. `batch_size`, a multiple of the world's size, is that of all
        processes together: each yields its own part of every batch, and the parts in the order of ranks are the whole batch. `weights`:
        see `shuffled`.
        """
        numbers = range((epoch - 1) * passes, epoch * passes)
        parts = schedule(rows, batch_size, numbers, seed, world=world, weights=weights, count=len(self._images))
        yield from self._augmented(parts, strength, ops, seed)

    def augmented(self, rows: Rows, batch_size: int, *, strength: float, ops: Sequence[str], seed: int, number: int) -> Iterator[Batch]:
        """Yield batches of the augmented images `rows` in this order. `number` is that of the view. The last batch may be smaller."""
        parts = (rows[start : start + batch_size] for start in range(0, len(rows), batch_size))
        yield from self._augmented(((part, part, number) for part in parts), strength, ops, seed)

    def targets(self, rows: Rows) -> Tensor:
        """Return the targets `(N,)` or `(N, K)` of the images `rows`, on the device."""
        return to_device(self._target(rows), self.device)

    def augmentation_version(self, ops: Sequence[str]) -> str:
        """Return what computes the augmented views with these operations, and its version: equal ones give equal views."""
        return DEVICE_VERSION if self._augments_on_device(ops) else CPU_VERSION

    def _augments_on_device(self, ops: Sequence[str]) -> bool:
        return self._on_device and DEVICE_OPS.issuperset(ops)

    def _augmented(self, parts: Iterable[Part], strength: float, ops: Sequence[str], seed: int) -> Iterator[Batch]:
        """Yield an augmented batch for each part."""
        if self._augments_on_device(ops):
            augment = DeviceAugmenter(strength, ops, self._size)
            for rows, samples, view in parts:
                views = augment(self._there.take(rows), Draws(seed, view, samples))
                yield self._normalised(views), self.targets(rows)
            return
        local = threading.local()

        def prepare(part: Part) -> Batch:
            if not hasattr(local, "augmenter"):
                local.augmenter = Augmenter(strength, ops, self._size)
            chosen, samples, view = part
            seeds = (sample_seed(seed, view, int(sample)) for sample in samples)
            pixels = np.stack([local.augmenter(self._images[row], sample) for row, sample in zip(chosen, seeds, strict=True)])
            return self._tensor(pixels), self._target(chosen)

        for batch in self._ahead(prepare, parts):
            yield self._to_device(batch)

    def _ahead(self, prepare: Callable[[Part], Batch], parts: Iterable[Part]) -> Iterator[Batch]:
        """Yield what `prepare` returns for each part, in order. The worker threads prepare some in advance."""
        if not self._workers:
            yield from map(prepare, parts)
            return
        with ThreadPoolExecutor(self._workers) as pool:
            waiting: deque[Future[Batch]] = deque()
            try:
                for part in parts:
                    waiting.append(pool.submit(prepare, part))
                    if len(waiting) > AHEAD * self._workers:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                for future in waiting:
                    future.cancel()

    def evaluation(self, rows: Rows, batch_size: int, *, size: int | None = None, mirrored: bool = False) -> Iterator[Batch]:
        """Yield batches of the images `rows` in this order, each image cropped to its centre. The last batch may be smaller.

        The crops have `size` pixels a side, by default `image_size`. With `mirrored`, left and right of each crop are exchanged.
        """
        side = size or self._size
        margin = (self._images.shape[1] - side) // 2
        middle = slice(margin, margin + side)
        for start in range(0, len(rows), batch_size):
            chosen = rows[start : start + batch_size]
            crops = self._there.take(chosen)[..., middle, middle]
            yield self._normalised(crops.flip(-1) if mirrored else crops), self.targets(chosen)

    def _tensor(self, pixels: Pixels) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(pixels)).permute(0, 3, 1, 2)

    def _target(self, chosen: Rows) -> Tensor:
        values = self._targets[chosen]
        return torch.from_numpy(values.astype(np.int64) if values.dtype.kind == "i" else values.copy())

    def _to_device(self, batch: Batch) -> Batch:
        pixels, targets = (to_device(part, self.device) for part in batch)
        return self._normalised(pixels), targets

    def _normalised(self, pixels: Tensor) -> Tensor:
        return ((pixels.float() - self._mean) / self._std).contiguous(memory_format=torch.channels_last)


def shuffled(rows: Rows, weights: Weights | None, rng: np.random.Generator) -> Rows:
    """Return the rows of one pass in random order, as many as `rows`: each once, or as often as its weight says.

    `weights` (one for each row, with the mean 1) are how often a row is drawn on average. Every pass has the number below or above that.
    """
    order = rng.permutation(len(rows))
    if weights is None:
        return rows[order]
    ends = np.floor(np.cumsum(weights[order]) * (len(rows) / weights.sum()) + rng.random())  # systematic sampling
    ends[-1] = len(rows)  # whatever the rounding of the sums
    return rng.permutation(np.repeat(rows[order], np.diff(ends, prepend=0).astype(np.int64)))


def schedule(
    rows: Rows, batch_size: int, passes: range, seed: int, *, count: int, world: World = ALONE, weights: Weights | None = None
) -> Iterator[Part]:
    """Yield this process's rows of each full batch; for each row a number that seeds its augmentation; and that of the pass.

    `passes`: the numbers of the passes over the rows, from 0 for the first epoch on; each is shuffled by (seed, number). What seeds the
    augmentation is the row, plus `count`, the number of all images, for each time that the pass had the row before.
    """
    part_size = batch_size // world.size
    for number in passes:
        order = shuffled(rows, weights, np.random.default_rng((seed, number)))
        samples = order + count * _times_before(order)
        for start in range(0, len(order) - batch_size + 1, batch_size):
            own = slice(start + world.rank * part_size, start + (world.rank + 1) * part_size)
            yield order[own], samples[own], number


def _times_before(values: Rows) -> Rows:
    """Return for each value how often it occurs before its place."""
    by_value = np.argsort(values, kind="stable")
    ordered = values[by_value]
    result = np.empty_like(values)
    result[by_value] = np.arange(len(values)) - np.searchsorted(ordered, ordered)
    return result
