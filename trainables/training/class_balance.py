"""How much each class of the training images weighs where classes are unequal: in the loss, or in the drawing of batches."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

LARGEST_RATIO = 10.0
"""A rare class weighs at most so many times as much as the most frequent one. Without a bound the few images of a very rare class would
fill the batches, or give single batches a gradient many times as large as all others."""


def class_weights(targets: NDArray[np.generic], classes: int) -> NDArray[np.float64]:
    """Return a weight for each class, `(classes,)`, from the targets `(N,)`: integers from 0.

    Weights are inverse to the number of images, within the ratio 10; their mean over the images is 1, which keeps the size of the loss.
    Classes without images have the weight of the rarest.
    """
    counts = np.bincount(targets.astype(np.int64), minlength=classes)
    weights = 1 / np.maximum(counts, counts.max() / LARGEST_RATIO)
    balanced: NDArray[np.float64] = weights * counts.sum() / (weights * counts).sum()
    return balanced


def positive_weights(targets: NDArray[np.generic]) -> NDArray[np.float64]:
    """Return how much more a positive counts than a negative, for 0/1 targets `(N,)` or `(N, labels)`: negatives / positives.

    A float64 of the shape `()` or `(labels,)`, between 1/10 and 10. torch calls it ``pos_weight``.
    """
    positives = targets.astype(np.float64).sum(0)
    negatives = len(targets) - positives
    ratios: NDArray[np.float64] = np.clip(negatives / np.maximum(positives, 1), 1 / LARGEST_RATIO, LARGEST_RATIO)
    return ratios


def loss_weights(task: str, targets: NDArray[np.generic], classes: int) -> Tensor:
    """Return the weights of `build_loss` for a task's training targets: of each class, or ``pos_weight`` (binary and multilabel)."""
    values = class_weights(targets, classes) if task == "multiclass" else positive_weights(targets)
    return torch.from_numpy(np.asarray(values)).float()


def image_weights(targets: NDArray[np.generic]) -> NDArray[np.float64]:
    """Return how often each image is drawn compared with the average, `(N,)`, so that all classes are drawn equally often.

    An image is drawn at most 10 times as often as one of the most frequent class. Targets are integers from 0, `(N,)`.
    """
    labels = targets.astype(np.int64)
    return class_weights(labels, int(labels.max()) + 1)[labels]
