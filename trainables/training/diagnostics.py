"""Diagnostics of the validation images for the dashboard: confusion, calibration and the like, as plain values that JSON can hold."""

import base64
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from torchmetrics.functional import classification as C

from trainables.data.dataset import Dataset
from trainables.images.thumbnails import jpeg, target_text
from trainables.training.tasks import TASKS, TargetScale

Rows = npt.NDArray[np.int64]
MAX_WORST, WORST_SIDE = 12, 128  # images, pixels
BINS, MAX_POINTS, MAX_CONFUSIONS = 10, 1000, 2000
GROUPS, T_QUANTILE = 20, 2.093
"""Groups of a jackknife, and the 97.5 % quantile of Student's t with one degree of freedom less."""


@dataclass(frozen=True)
class Predictions:
    """A network's predictions for the images `rows` (indices) of a data set.

    `outputs` are probabilities `(N, K)`, with K = 1 for a binary task, or the values `(N, 1)` of a regression. `truth` holds class numbers
    `(N,)`, for multilabel 0 or 1 `(N, K)`, for regression the targets `(N,)`. Regression values and targets are in original units.
    """

    dataset: Dataset
    rows: Rows
    outputs: Tensor
    truth: Tensor

    @property
    def predicted(self) -> Tensor:
        """The predicted class number of each image `(N,)`; for multilabel 0 or 1 for each label `(N, K)`.

        There is none for regression.
        """
        return self.outputs.argmax(1) if self.dataset.task == "multiclass" else (self.outputs >= 0.5).long().squeeze(1)

    @property
    def probabilities(self) -> Tensor:
        """The probability of each class `(N, classes)`, in two columns for a binary task, or of each label (multilabel)."""
        return torch.cat([1 - self.outputs, self.outputs], 1) if self.dataset.task == "binary" else self.outputs


def decode_predictions(dataset: Dataset, split: str, logits: Tensor, targets: Tensor, scale: TargetScale) -> Predictions:
    """Return the predictions for a split from its logits `(N, outputs)` and targets. `scale` is that of the network's training."""
    if dataset.task == "regression":
        return Predictions(dataset, dataset.rows[split], scale.decode(logits.double()), targets.double())
    return Predictions(dataset, dataset.rows[split], TASKS[dataset.task].activation(logits), targets.long())


def diagnose(predictions: Predictions) -> dict[str, Any]:
    """Return the task's diagnostics by name (see `DIAGNOSTICS`), and for every task `images` (their number), `classes` (names), `worst`.

    `confusion`: [truth, prediction, images] by class number, most images first.
    `reliability`: [mean probability, share right, images] for each bin of predicted probability (Guo et al. 2017, "On Calibration of
    Modern Neural Networks").
    `precision`: [label number, average precision, images with the label].
    `scatter`: [truth, prediction].
    `worst`: `name`, `truth`, `prediction` and `jpeg` (base64) of each of the images with the largest errors.
    """
    task, classes = predictions.dataset.task, predictions.dataset.classes
    by_name = {name: compute(predictions) for name, compute in DIAGNOSTICS[task].items()}
    return {"images": len(predictions.rows), "classes": list(classes), **by_name, "worst": worst_images(predictions)}


def confusion(predictions: Predictions) -> list[list[int]]:
    """Return [true class, predicted class, images] for the pairs of classes that have images, most images first.

    There are at most 2,000 pairs.
    """
    pairs, counts = np.unique(torch.stack([predictions.truth, predictions.predicted], 1).numpy(), axis=0, return_counts=True)
    order = np.argsort(-counts, kind="stable")[:MAX_CONFUSIONS]
    return [[int(truth), int(predicted), int(count)] for (truth, predicted), count in zip(pairs[order], counts[order], strict=True)]


def reliability(predictions: Predictions) -> list[list[float]]:
    """Return [mean probability, share right, images] for each of ten equal bins of predicted probability that is not empty.

    The probability is that of the predicted class. For multilabel each label of each image counts, and "right" means that it is present.
    """
    if predictions.dataset.task == "multilabel":
        probabilities, right = predictions.outputs.flatten(), predictions.truth.flatten().double()
    else:
        probabilities, right = predictions.probabilities.max(1).values, (predictions.predicted == predictions.truth).double()
    bins = (probabilities * BINS).long().clamp(max=BINS - 1)
    inside = [bins == number for number in range(BINS)]
    return [[float(probabilities[mask].mean()), float(right[mask].mean()), int(mask.sum())] for mask in inside if mask.any()]


def precision(predictions: Predictions) -> list[list[float]]:
    """Return [label number, average precision, images with the label] for each label that at least one image has."""
    counts = predictions.truth.sum(0)
    return [
        [number, float(C.binary_average_precision(predictions.outputs[:, number], predictions.truth[:, number])), int(counts[number])]
        for number in range(predictions.outputs.shape[1])
        if counts[number]
    ]


def scatter(predictions: Predictions) -> list[list[float]]:
    """Return [truth, prediction] in original units for at most 1,000 images, evenly spread over the split."""
    chosen = np.linspace(0, len(predictions.rows) - 1, min(len(predictions.rows), MAX_POINTS)).astype(np.int64)
    return [[float(predictions.truth[place]), float(predictions.outputs[place, 0])] for place in chosen]


DIAGNOSTICS: Mapping[str, Mapping[str, Callable[[Predictions], list[Any]]]] = {
    "regression": {"scatter": scatter},
    "binary": {"confusion": confusion, "reliability": reliability},
    "multiclass": {"confusion": confusion, "reliability": reliability},
    "multilabel": {"precision": precision, "reliability": reliability},
}
"""Task → name of a diagnostic → the function that computes it."""


def worst_images(predictions: Predictions) -> list[dict[str, str]]:
    """Return the at most twelve wrongly predicted images with the largest errors, the largest first.

    Each has its `name`, its `truth` and `prediction` as text, and a small `jpeg` in base64.
    """
    errors, wrong = _errors(predictions)
    order = [int(place) for place in errors.argsort(descending=True, stable=True) if wrong[place]][:MAX_WORST]
    names = predictions.dataset.names
    return [{"name": names[predictions.rows[place]], **_labels(predictions, place), "jpeg": _jpeg(predictions, place)} for place in order]


def _errors(predictions: Predictions) -> tuple[Tensor, Tensor]:
    """Return the error of each image `(N,)`, and whether its prediction was wrong `(N,)`.

    The error is the absolute error (regression), the mean cross-entropy of the labels (multilabel), or 1 - the true class's probability.
    """
    outputs, truth = predictions.outputs, predictions.truth
    if predictions.dataset.task == "regression":
        errors = (outputs[:, 0] - truth).abs()
        return errors, errors > 0
    if predictions.dataset.task == "multilabel":
        errors = F.binary_cross_entropy(outputs.double(), truth.double(), reduction="none").mean(1)
        return errors, (predictions.predicted != truth).any(1)
    return 1 - predictions.probabilities.gather(1, truth[:, None]).squeeze(1), predictions.predicted != truth


def _labels(predictions: Predictions, place: int) -> dict[str, str]:
    task, classes = predictions.dataset.task, predictions.dataset.classes
    predicted = predictions.outputs[place, 0] if task == "regression" else predictions.predicted[place]
    probability = f" ({float(predictions.probabilities[place, int(predicted)]):.0%})" if task in ("binary", "multiclass") else ""
    truth = target_text(task, classes, predictions.truth[place])
    return {"truth": truth, "prediction": target_text(task, classes, predicted) + probability}


def _jpeg(predictions: Predictions, place: int) -> str:
    picture = Image.fromarray(np.asarray(predictions.dataset.images[predictions.rows[place]]))
    picture.thumbnail((WORST_SIDE, WORST_SIDE))
    return base64.b64encode(jpeg(picture)).decode()


def interval(value: float, metric_of: Callable[[Tensor], float], images: int) -> tuple[float, float] | None:
    """Return (low, high), a 95 % interval around a metric's `value` over random draws of the images, or None for fewer than 40 `images`.

    `metric_of` computes the metric on a part of the images, given their places `(n,)` from 0 to `images` - 1. Jackknife over groups, with
    Student's t (Efron and Tibshirani 1993, "An Introduction to the Bootstrap", chapter 11): it needs no formula for each metric, and twenty
    evaluations.
    """
    if images < 2 * GROUPS:
        return None
    group = torch.from_numpy(np.random.default_rng(0).permutation(images) % GROUPS)
    without_group = [metric_of((group != number).nonzero().squeeze(1)) for number in range(GROUPS)]
    mean = sum(without_group) / GROUPS
    error = math.sqrt((GROUPS - 1) / GROUPS * sum((one - mean) ** 2 for one in without_group))
    return value - T_QUANTILE * error, value + T_QUANTILE * error
