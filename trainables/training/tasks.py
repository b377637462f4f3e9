"""A table of tasks: what the outputs mean and which metrics they have; and a table of losses."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torchmetrics.functional import classification as C
from torchmetrics.functional import regression as R

from trainables.objectives import training_loss

Loss = Callable[[Tensor, Tensor], Tensor]
Metrics = dict[str, float]


@dataclass(frozen=True)
class TargetScale:
    """How regression targets are scaled for training: optionally their logarithm, then minus `mean` and divided by `deviation`.

    Computed in double precision. The defaults leave targets unchanged.
    """

    mean: float = 0.0
    deviation: float = 1.0
    logarithm: bool = False

    def encode(self, targets: Tensor) -> Tensor:
        """Return targets in original units as values that the network is trained on; same shape."""
        return ((torch.log(targets) if self.logarithm else targets) - self.mean) / self.deviation

    def decode(self, outputs: Tensor) -> Tensor:
        """Return the network's outputs in original units; same shape. With a logarithm they are at most exp(80), which is finite."""
        plain = outputs * self.deviation + self.mean
        return torch.exp(plain.clamp(max=80.0)) if self.logarithm else plain

    def convert(self, outputs: Tensor, other: "TargetScale") -> Tensor:
        """Return outputs in the units of the scale `other`, of which this has the same kind, in the units of this one; same shape.

        The values stay scaled, because those in original units can be too large or too small for single precision.
        """
        return ((outputs.double() * other.deviation + (other.mean - self.mean)) / self.deviation).to(outputs.dtype)


def fit_target_scale(targets: np.ndarray, scale: str) -> TargetScale:
    """Return the target scale (`scale`: ``linear`` or ``log``) that gives the training targets `(N,)` mean 0 and standard deviation 1.

    ``log`` needs targets above 0, which `objectives.check_targets` checks.
    """
    if scale == "log":
        targets = np.log(targets)
    deviation = float(targets.std())
    return TargetScale(float(targets.mean()), deviation if deviation > 0 else 1.0, scale == "log")


@dataclass(frozen=True)
class Task:
    """A row of the table of tasks. Logits are `(N, outputs)` for every task."""

    name: str
    outputs: Callable[[int], int]  # number of classes → width of the last layer
    activation: Callable[[Tensor], Tensor]  # logits → probabilities, for regression the logits themselves
    metrics: Callable[[Tensor, Tensor], Metrics]  # (probabilities or values in original units, targets) → all but the loss


def _binary_metrics(scores: Tensor, targets: Tensor) -> Metrics:
    return {
        "accuracy": float(C.binary_accuracy(scores, targets)),
        "f1": float(C.binary_f1_score(scores, targets)),
        "auroc": float(C.binary_auroc(scores, targets)),
        "average_precision": float(C.binary_average_precision(scores, targets)),
    }


def _multiclass_metrics(scores: Tensor, targets: Tensor) -> Metrics:
    classes = scores.shape[1]
    metrics = {
        "accuracy": float(C.multiclass_accuracy(scores, targets, classes, average="micro")),
        "balanced_accuracy": float(C.multiclass_recall(scores, targets, classes, average=None)[targets.unique()].mean()),
        "macro_f1": float(C.multiclass_f1_score(scores, targets, classes, average="macro")),
    }
    if classes >= 10:
        metrics["top5"] = float(C.multiclass_accuracy(scores, targets, classes, average="micro", top_k=5))
    return metrics


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
    metrics = {
        "mae": float(R.mean_absolute_error(predictions, targets)),
        "rmse": math.sqrt(float(R.mean_squared_error(predictions, targets))),
        "r2": _r2(predictions, targets),
    }
    nonzero = targets != 0
    if nonzero.any():
        metrics["mape"] = float(R.mean_absolute_percentage_error(predictions[nonzero], targets[nonzero]))
    return metrics


def _r2(predictions: Tensor, targets: Tensor) -> float:
    """Return the coefficient of determination R², and 0 if all targets are equal.

    The values are standardised first: torchmetrics loses digits far from 0 and rounds small residuals to 0.
    """
    center, spread = targets.mean(), targets.std(correction=0)
    return float(R.r2_score((predictions - center) / spread, (targets - center) / spread)) if spread > 0 else 0.0


TASKS: dict[str, Task] = {
    "regression": Task("regression", lambda classes: 1, lambda x: x, _regression_metrics),
    "binary": Task("binary", lambda classes: 1, torch.sigmoid, _binary_metrics),
    "multiclass": Task("multiclass", lambda classes: classes, partial(torch.softmax, dim=-1), _multiclass_metrics),
    "multilabel": Task("multilabel", lambda classes: classes, torch.sigmoid, _multilabel_metrics),
}

LossBuilder = Callable[[TargetScale, float, Tensor | None], Loss]
"""(target scale, label smoothing, weights of the classes) → loss. Where targets are classes, they may also be probabilities."""


def _on_scaled_targets(loss: Loss) -> LossBuilder:
    return lambda scale, smoothing, weights: lambda outputs, targets: loss(outputs.view(-1), scale.encode(targets.double()).float())


def _cross_entropy(logits: Tensor, targets: Tensor, *, smoothing: float, weights: Tensor | None) -> Tensor:
    if weights is not None and targets.ndim == 1:
        # torch would divide by the weights of the batch's own images, and the mean over micro-batches would not be that of the batch
        targets = F.one_hot(targets, len(weights)).to(logits.dtype)
    return F.cross_entropy(logits, targets, weight=weights, label_smoothing=smoothing)


def _binary_cross_entropy(logits: Tensor, targets: Tensor, *, weights: Tensor | None) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits.view(targets.shape), targets.float(), pos_weight=weights)


def _mape(outputs: Tensor, targets: Tensor, scale: TargetScale) -> Tensor:
    return ((scale.decode(outputs.view(-1).double()) - targets) / targets).abs().mean().float()


LOSS_BUILDERS: dict[str, LossBuilder] = {
    "cross_entropy": lambda scale, smoothing, weights: partial(_cross_entropy, smoothing=smoothing, weights=weights),
    "binary_cross_entropy": lambda scale, smoothing, weights: partial(_binary_cross_entropy, weights=weights),
    "mse": _on_scaled_targets(F.mse_loss),
    "mae": _on_scaled_targets(F.l1_loss),
    "huber": _on_scaled_targets(F.huber_loss),
    "mape": lambda scale, smoothing, weights: partial(_mape, scale=scale),
}
"""Name of a loss → what builds it. `trainables.objectives.LOSSES` says which task has which losses."""


def build_loss(
    task: str, name: str | None, *, label_smoothing: float = 0.0, scale: TargetScale | None = None, weights: Tensor | None = None
) -> Loss:
    """Return a task's loss, a function of logits `(N, outputs)` and targets that returns a scalar. `name` None is the task's default loss.

    Training uses the trial's `label_smoothing`, validation 0. `scale` is for regression; by default targets are unchanged. `weights`, on
    the device of the logits: of each class for multiclass, ``pos_weight`` for binary `()` and multilabel `(outputs,)`.
    Raises ``ConfigError`` for a loss that the task does not have.
    """
    return LOSS_BUILDERS[training_loss(task, name)](scale or TargetScale(), label_smoothing, weights)


def score(task: str, logits: Tensor, targets: Tensor, loss: Loss, scale: TargetScale) -> Metrics:
    """Return the metrics of a task by name, and the value of `loss` as ``loss``, for logits `(N, outputs)` and targets.

    Regression metrics are in original units. ``top5`` is missing below 10 classes, ``mape`` if all targets are 0.
    """
    row = TASKS[task]
    if task == "regression":
        predictions = scale.decode(logits.view(-1).double())
    else:
        predictions = row.activation(logits)
        targets = targets.long()
    if task == "binary":
        predictions = predictions.view(-1)
    return {**row.metrics(predictions, targets), "loss": float(loss(logits, targets))}
