"""`Evaluator`, which runs images without augmentation through a trial's network."""

import math
from collections.abc import Callable, Iterable
from functools import partial
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from trainables.distributed.world import World
from trainables.images.batches import Batch, Batches, Rows
from trainables.networks.model import Network
from trainables.training.evaluation.batch_size import largest_fitting_batch
from trainables.training.evaluation.boundary import BoundaryCache
from trainables.training.features.features import Features
from trainables.training.precision import Precision

IMAGES_FOR_STATISTICS = 256
"""A quarter of the 1,000 that Wu & Johnson 2021 use; an image gives many values of each channel in all stages but the last."""
Result = tuple[Tensor, Tensor]  # a row for each image, and the targets
Work = TypeVar("Work")


class Evaluator:
    """Computes logits, pooled features and batch-norm statistics of the images `rows` (indices) in batches of `batch_size` images.

    `batch_size` halves each time that a GPU's memory is too small. The processes of a world share the images: all must call each method,
    and each gets the whole result. `image_size` is the side of the evaluated squares, pixels; pooled features are those of squares as large
    as in training, because the head learns from them.
    With `flips`, the logits of an image are the mean over it and its mirror image. Logits, because every task has them and all metrics and
    the loss follow from them; for classes the mean is that of log-probabilities, up to a constant.
    `features`, if given, compute the activations at the network's boundary.
    """

    def __init__(
        self,
        network: Network,
        batches: Batches,
        precision: Precision,
        world: World,
        *,
        image_size: int,
        flips: bool = False,
        features: Features | None = None,
    ) -> None:
        self._network, self._batches, self._precision, self._world, self._flips = network, batches, precision, world, flips
        self._image_size = image_size
        self._boundary, self._features = BoundaryCache(network, precision), features
        self.batch_size = largest_fitting_batch(network, image_size, batches.device)

    def predict(self, rows: Rows) -> Result:
        """Return the logits `(N, outputs)` and the targets of images, in main memory."""
        return self._shared(rows, self._predict)

    def pooled_features(self, rows: Rows) -> Result:
        """Return the pooled features `(N, width) float32` of images and their targets, on the device."""
        return self._shared(rows, self._pooled)

    def recompute_statistics(self, rows: Rows, seed: int) -> None:
        """Recompute the statistics of unfrozen batch norm, in place, on at most 256 of the images `rows`.

        The images are drawn at random, the same ones for each seed: images that are ordered by class would give each batch the statistics
        of its own class. See `Network.recompute_statistics`.
        """
        if self._network.needs_statistics:
            self._with_smaller_batches(partial(self._recompute, rows, seed))

    def _recompute(self, rows: Rows, seed: int) -> None:
        chosen = np.random.default_rng(seed).permutation(rows)[:IMAGES_FOR_STATISTICS]
        size = math.ceil(len(chosen) / math.ceil(len(chosen) / self.batch_size))  # of nearly one size: each has the same weight
        parts = [chosen[start : start + size] for start in range(0, len(chosen), size)][self._world.rank :: self._world.size]
        own = np.concatenate([*parts, chosen[:0]])
        if self._features:
            activations = self._features.evaluation(own, size, size=self._image_size)
        else:
            activations = self._boundary.batches(own, lambda rows: self._batches.evaluation(rows, size, size=self._image_size))
        self._network.recompute_statistics((values for values, _ in activations), self._world)

    def _pooled(self, rows: Rows) -> Result:
        if self._features:
            return self._features.pooled(rows)
        return pooled_features(self._network, self._batches.evaluation(rows, self.batch_size), self._precision)

    def _predict(self, rows: Rows) -> Result:
        logits, targets = predict(self._network, self._activations(rows), self._precision)
        if self._flips:
            mirrored, _ = predict(self._network, self._activations(rows, mirrored=True), self._precision)
            logits = (logits + mirrored) / 2
        return logits, targets

    def _images(self, rows: Rows, *, mirrored: bool = False) -> Iterable[Batch]:
        return self._batches.evaluation(rows, self.batch_size, size=self._image_size, mirrored=mirrored)

    def _activations(self, rows: Rows, *, mirrored: bool = False) -> Iterable[Batch]:
        if self._features:
            return self._features.evaluation(rows, self.batch_size, size=self._image_size, mirrored=mirrored)
        return self._boundary.batches(rows, partial(self._images, mirrored=mirrored), view="mirrored" if mirrored else "")

    def _shared(self, rows: Rows, work: Callable[[Rows], Result]) -> Result:
        """Return the result of `work` for all rows, of which each process does its share."""
        own, targets = self._with_smaller_batches(partial(work, self._world.share(rows)))
        return self._world.gather(own, len(rows)), self._world.gather(targets, len(rows))

    def _with_smaller_batches(self, work: Callable[[], Work]) -> Work:
        """Return the result of `work`. As long as a GPU's memory is too small for it, halve `batch_size` and call it again."""
        while True:
            try:
                return work()
            except torch.OutOfMemoryError:
                if self.batch_size == 1:
                    raise
            self.batch_size //= 2
            self._boundary.clear()
            if self._features:
                self._features.batch_size = min(self._features.batch_size, self.batch_size)
            torch.cuda.empty_cache()


@torch.inference_mode()
def predict(network: Network, batches: Iterable[Batch], precision: Precision) -> Result:
    """Return the logits `(N, outputs)` and the targets of all batches, in main memory. Leaves the network in evaluation mode.

    The batches hold activations that `Network.to_boundary` returned.
    """
    network.eval()
    logits, targets = [], []
    for activations, wanted in batches:
        with precision.autocast():
            logits.append(network.from_boundary(activations).float().cpu())
        targets.append(wanted.cpu())
    return torch.cat(logits), torch.cat(targets)


@torch.no_grad()
def pooled_features(network: Network, batches: Iterable[Batch], precision: Precision) -> Result:
    """Return the pooled features `(N, width) float32` of the images of all batches, and their targets, on the device."""
    network.eval()
    features, targets = [], []
    for images, wanted in batches:
        with precision.autocast():
            features.append(network.body(images).float())
        targets.append(wanted)
    return torch.cat(features), torch.cat(targets)
