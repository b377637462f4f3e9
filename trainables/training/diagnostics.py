"""What a network makes of the validation images, for people to look at: plain values that any reader can draw."""

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
from trainables.images.thumbnails import jpeg, label
from trainables.training.tasks import TASKS, TargetScale

Rows = npt.NDArray[np.int64]
WORST, WORST_SIDE = 12, 128
BINS, MOST_POINTS, MOST_CONFUSIONS = 10, 1000, 2000
GROUPS, T_QUANTILE = 20, 2.093
"""Groups of a jackknife, and the 97.5 % quantile of Student's t with one degree of freedom fewer."""


@dataclass(frozen=True)
class Predictions:
    """What a network said of some images of a data set. Probabilities `(N, K)`; for regression the values `(N, 1)` in original units."""

    dataset: Dataset
    rows: Rows
    said: Tensor
    truth: Tensor

    @property
    def chosen(self) -> Tensor:
        """The class of each image (binary, multiclass), or each label's 0 or 1 (multilabel)."""
        return self.said.argmax(1) if self.dataset.task == "multiclass" else (self.said >= 0.5).long().squeeze(1)

    @property
    def probabilities(self) -> Tensor:
        """The probability of each class `(N, classes)`: binary ones as two columns."""
        return torch.cat([1 - self.said, self.said], 1) if self.dataset.task == "binary" else self.said


def predictions(dataset: Dataset, split: str, logits: Tensor, targets: Tensor, scale: TargetScale) -> Predictions:
    """Return what logits `(N, outputs)` of a split mean."""
    if dataset.task == "regression":
        return Predictions(dataset, dataset.rows[split], scale.decode(logits.double()), targets.double())
    return Predictions(dataset, dataset.rows[split], TASKS[dataset.task].activation(logits), targets.long())


def pictures(found: Predictions) -> dict[str, Any]:
    """Return the task's pictures by name, and the images that it got most wrong.

    `confusion`: [truth, prediction, images] by class number, most images first.
    `reliability`: [mean probability, share right, images] for each bin of predicted probability (Guo et al. 2017, "On Calibration of
    Modern Neural Networks").
    `precision`: [label number, average precision, images with the label].
    `scatter`: [truth, prediction].
    `worst`: name, truth, prediction, and a JPEG in base64.
    """
    about = {"images": len(found.rows), "classes": list(found.dataset.classes)}
    return about | {name: draw(found) for name, draw in PICTURES[found.dataset.task].items()} | {"worst": worst(found)}


def confusion(found: Predictions) -> list[list[int]]:
    """Return how often each class was taken for which."""
    pairs, counts = np.unique(torch.stack([found.truth, found.chosen], 1).numpy(), axis=0, return_counts=True)
    order = np.argsort(-counts, kind="stable")[:MOST_CONFUSIONS]
    return [[int(truth), int(said), int(count)] for (truth, said), count in zip(pairs[order], counts[order], strict=True)]


def reliability(found: Predictions) -> list[list[float]]:
    """Return how often a prediction of some probability was right; for multilabel, how often a label of some probability was there."""
    if found.dataset.task == "multilabel":
        sure, right = found.said.flatten(), found.truth.flatten().double()
    else:
        sure, right = found.probabilities.max(1).values, (found.chosen == found.truth).double()
    bins = (sure * BINS).long().clamp(max=BINS - 1)
    inside = [bins == number for number in range(BINS)]
    return [[float(sure[mask].mean()), float(right[mask].mean()), int(mask.sum())] for mask in inside if mask.any()]


def precision(found: Predictions) -> list[list[float]]:
    """Return each label's average precision, of the labels that any image has."""
    counts = found.truth.sum(0)
    return [
        [label, float(C.binary_average_precision(found.said[:, label], found.truth[:, label])), int(counts[label])]
        for label in range(found.said.shape[1])
        if counts[label]
    ]


def scatter(found: Predictions) -> list[list[float]]:
    """Return the truth and the prediction of at most 1,000 images, evenly spread over the split."""
    chosen = np.linspace(0, len(found.rows) - 1, min(len(found.rows), MOST_POINTS)).astype(np.int64)
    return [[float(found.truth[place]), float(found.said[place, 0])] for place in chosen]


PICTURES: Mapping[str, Mapping[str, Callable[[Predictions], list[Any]]]] = {
    "regression": {"scatter": scatter},
    "binary": {"confusion": confusion, "reliability": reliability},
    "multiclass": {"confusion": confusion, "reliability": reliability},
    "multilabel": {"precision": precision, "reliability": reliability},
}


def worst(found: Predictions) -> list[dict[str, str]]:
    """Return the images that were got most wrong, the worst first; none that was got right."""
    errors, wrong = _errors(found)
    order = [int(place) for place in errors.argsort(descending=True, stable=True) if wrong[place]][:WORST]
    return [{"name": found.dataset.names[found.rows[place]], **_words(found, place), "jpeg": _jpeg(found, place)} for place in order]


def _errors(found: Predictions) -> tuple[Tensor, Tensor]:
    """Return how wrong each image was got, and whether it was got wrong at all."""
    if found.dataset.task == "regression":
        errors = (found.said[:, 0] - found.truth).abs()
        return errors, errors > 0
    if found.dataset.task == "multilabel":
        errors = F.binary_cross_entropy(found.said.double(), found.truth.double(), reduction="none").mean(1)
        return errors, (found.chosen != found.truth).any(1)
    return 1 - found.probabilities.gather(1, found.truth[:, None]).squeeze(1), found.chosen != found.truth


def _words(found: Predictions, place: int) -> dict[str, str]:
    task, classes = found.dataset.task, found.dataset.classes
    said = found.said[place, 0] if task == "regression" else found.chosen[place]
    sure = f" ({float(found.probabilities[place, int(said)]):.0%})" if task in ("binary", "multiclass") else ""
    return {"truth": label(task, classes, found.truth[place]), "prediction": label(task, classes, said) + sure}


def _jpeg(found: Predictions, place: int) -> str:
    picture = Image.fromarray(np.asarray(found.dataset.images[found.rows[place]]))
    picture.thumbnail((WORST_SIDE, WORST_SIDE))
    return base64.b64encode(jpeg(picture)).decode()


def interval(value: float, judge: Callable[[Tensor], float], images: int) -> tuple[float, float] | None:
    """Return a 95 % interval of a metric for the draw of the images it was judged on, None for too few of them.

    `judge` gives the metric of the images at some places. Jackknife over groups, with Student's t (Efron and Tibshirani 1993, "An
    Introduction to the Bootstrap", chapter 11): it needs no formula for each metric, and twenty evaluations.
    """
    if images < 2 * GROUPS:
        return None
    group = torch.from_numpy(np.random.default_rng(0).permutation(images) % GROUPS)
    left_out = [judge((group != number).nonzero().squeeze(1)) for number in range(GROUPS)]
    mean = sum(left_out) / GROUPS
    error = math.sqrt((GROUPS - 1) / GROUPS * sum((one - mean) ** 2 for one in left_out))
    return value - T_QUANTILE * error, value + T_QUANTILE * error
