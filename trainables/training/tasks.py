"""One table: task → what the outputs mean, which losses train them, which metrics judge them, which one a search goes by."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torchmetrics.functional import classification as C
from torchmetrics.functional import regression as R

from trainables.objectives import DIRECTIONS, training_loss

Loss = Callable[[Tensor, Tensor], Tensor]
Metrics = dict[str, float]


@dataclass(frozen=True)
class TargetScale:
    """How regression targets enter a loss: optionally their logarithm, then standardised by training statistics, in double precision."""

    mean: float = 0.0
    deviation: float = 1.0
    logarithm: bool = False

    def encode(self, targets: Tensor) -> Tensor:
        """Original units → what the network is trained on."""
        return ((torch.log(targets) if self.logarithm else targets) - self.mean) / self.deviation

    def decode(self, outputs: Tensor) -> Tensor:
        """What the network gives → original units."""
        plain = outputs * self.deviation + self.mean
        return torch.exp(plain.clamp(max=80.0)) if self.logarithm else plain


def fit_target_scale(targets: np.ndarray, scale: str) -> TargetScale:
    """Return the scale of training targets `(N,)`; a logarithmic one needs targets above 0 (`objectives.check_targets`)."""
    if scale == "log":
        targets = np.log(targets)
    deviation = float(targets.std())
    return TargetScale(float(targets.mean()), deviation if deviation > 0 else 1.0, scale == "log")


@dataclass(frozen=True)
class Task:
    """A row of the table. Logits are `(N, outputs)` for every task."""

    name: str
    outputs: Callable[[int], int]
    activation: Callable[[Tensor], Tensor]
    metrics: Callable[[Tensor, Tensor], Metrics]


def _binary_metrics(scores: Tensor, targets: Tensor) -> Metrics:
    return {
        "accuracy": float(C.binary_accuracy(scores, targets)),
        "f1": float(C.binary_f1_score(scores, targets)),
        "auroc": float(C.binary_auroc(scores, targets)),
        "average_precision": float(C.binary_average_precision(scores, targets)),
    }


def _multiclass_metrics(scores: Tensor, targets: Tensor) -> Metrics:
    classes = scores.shape[1]
    found = {
        "accuracy": float(C.multiclass_accuracy(scores, targets, classes, average="micro")),
        "balanced_accuracy": float(C.multiclass_recall(scores, targets, classes, average=None)[targets.unique()].mean()),
        "macro_f1": float(C.multiclass_f1_score(scores, targets, classes, average="macro")),
    }
    if classes >= 10:
        found["top5"] = float(C.multiclass_accuracy(scores, targets, classes, average="micro", top_k=5))
    return found


def _multilabel_metrics(scores: Tensor, targets: Tensor) -> Metrics:
    labels = scores.shape[1]
    present = [label for label in range(labels) if targets[:, label].any()]
    precisions = [float(C.binary_average_precision(scores[:, label], targets[:, label])) for label in present]
    return {
        "map": sum(precisions) / len(precisions) if precisions else 0.0,
        "micro_f1": float(C.multilabel_f1_score(scores, targets, labels, average="micro")),
        "macro_f1": float(C.multilabel_f1_score(scores, targets, labels, average="macro")),
        "hamming": float(C.multilabel_hamming_distance(scores, targets, labels)),
    }


def _regression_metrics(predictions: Tensor, targets: Tensor) -> Metrics:
    predictions, targets = predictions.double(), targets.double()
    found = {
        "mae": float(R.mean_absolute_error(predictions, targets)),
        "rmse": math.sqrt(float(R.mean_squared_error(predictions, targets))),
        "r2": _r2(predictions, targets),
    }
    nonzero = targets != 0
    if nonzero.any():
        found["mape"] = float(R.mean_absolute_percentage_error(predictions[nonzero], targets[nonzero]))
    return found


def _r2(predictions: Tensor, targets: Tensor) -> float:
    """R² of standardised values, as torchmetrics loses digits far from 0 and takes small residuals for none; 0 for equal targets."""
    center, spread = targets.mean(), targets.std(correction=0)
    return float(R.r2_score((predictions - center) / spread, (targets - center) / spread)) if spread > 0 else 0.0


TASKS: dict[str, Task] = {
    "regression": Task("regression", lambda classes: 1, lambda x: x, _regression_metrics),
    "binary": Task("binary", lambda classes: 1, torch.sigmoid, _binary_metrics),
    "multiclass": Task("multiclass", lambda classes: classes, partial(torch.softmax, dim=-1), _multiclass_metrics),
    "multilabel": Task("multilabel", lambda classes: classes, torch.sigmoid, _multilabel_metrics),
}

_REGRESSION_LOSSES: Mapping[str, Loss] = {"mse": F.mse_loss, "mae": F.l1_loss, "huber": F.huber_loss}


def build_loss(task: str, name: str | None, *, label_smoothing: float = 0.0, scale: TargetScale | None = None) -> Loss:
    """Return the training loss `(logits (N, outputs), targets) → scalar`; ``label_smoothing=0`` gives the plain one for validation.

    Raises ``ConfigError`` for a loss that the task does not have.
    """
    scale, name = scale or TargetScale(), training_loss(task, name)
    if name == "cross_entropy":
        return partial(F.cross_entropy, label_smoothing=label_smoothing)
    if name == "binary_cross_entropy":
        return lambda logits, targets: F.binary_cross_entropy_with_logits(logits.view(targets.shape), targets.float())
    if name == "mape":
        return lambda outputs, targets: ((scale.decode(outputs.view(-1).double()) - targets) / targets).abs().mean().float()
    return lambda outputs, targets: _REGRESSION_LOSSES[name](outputs.view(-1), scale.encode(targets.double()).float())


def score(task: str, logits: Tensor, targets: Tensor, loss: Loss, scale: TargetScale) -> Metrics:
    """Return every metric of the task for logits `(N, outputs)` and targets, `loss` among them; regression in original units."""
    row = TASKS[task]
    if task == "regression":
        predictions = scale.decode(logits.view(-1).double())
    else:
        predictions = row.activation(logits)
        targets = targets.long()
    if task == "binary":
        predictions = predictions.view(-1)
    return {**row.metrics(predictions, targets), "loss": float(loss(logits, targets))}


def is_better(metric: str, value: float, than: float) -> bool:
    """Say whether a value of a metric beats another."""
    return value > than if DIRECTIONS[metric] == "max" else value < than
