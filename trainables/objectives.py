"""The metrics and losses of each task, and the metric that a search optimizes by default. Light to import."""

import numpy as np

from trainables.errors import ConfigError, DataError, did_you_mean

METRICS: dict[str, tuple[str, ...]] = {
    "regression": ("mae", "rmse", "mape", "r2", "loss"),
    "binary": ("accuracy", "f1", "auroc", "average_precision", "loss"),
    "multiclass": ("accuracy", "balanced_accuracy", "macro_f1", "top5", "loss"),
    "multilabel": ("map", "micro_f1", "macro_f1", "hamming", "loss"),
}
LOSSES: dict[str, tuple[str, ...]] = {
    "regression": ("mse", "mae", "huber", "mape"),
    "binary": ("binary_cross_entropy",),
    "multiclass": ("cross_entropy",),
    "multilabel": ("binary_cross_entropy",),
}
"""Task → the losses that train it, the default one first."""
DIRECTIONS: dict[str, str] = {
    name: "min" if name in {"mae", "rmse", "mape", "hamming", "loss"} else "max" for names in METRICS.values() for name in names
}
IN_UNIT_INTERVAL = frozenset(DIRECTIONS) - {"mae", "rmse", "mape", "r2", "loss"}
"""Metrics whose values are always between 0 and 1."""


def sign(mode: str) -> int:
    """Return 1 for ``max`` and -1 for ``min``: a metric times its sign is better when it is larger."""
    return {"max": 1, "min": -1}[mode]


def is_better(value: float, than: float, mode: str) -> bool:
    """Return whether `value` is strictly better than `than`. The metric is maximized if `mode` is ``max``, minimized if it is ``min``."""
    return sign(mode) * value > sign(mode) * than


def objective(task: str, targets: np.ndarray, metric: str | None = None) -> str:
    """Return the name of the metric that a search optimizes: `metric` if given, else the one that suits the training targets.

    Multiclass: accuracy, or macro-F1 where the largest class is over 3 times the smallest. Binary: area under the ROC curve, or average
    precision where the positive class is under 20 %. Multilabel: mean average precision. Regression: mean absolute error.
    Raises ``ConfigError`` for a metric that the task does not have, and for ``top5`` with fewer than 10 classes.
    """
    if metric is not None:
        if metric not in METRICS[task]:
            raise ConfigError(f"metric {metric!r} is not a metric of a {task} task; known: {', '.join(METRICS[task])}")
        if metric == "top5" and targets.max() < 9:
            raise ConfigError(f"metric top5 needs at least 10 classes, but there are {targets.max() + 1:.0f}")
        return metric
    if task == "multiclass":
        counts = np.bincount(targets.astype(np.int64))
        counts = counts[counts > 0]
        return "macro_f1" if counts.max() > 3 * counts.min() else "accuracy"
    if task == "binary":
        return "average_precision" if 5 * int(targets.sum()) < len(targets) else "auroc"
    return {"multilabel": "map", "regression": "mae"}[task]


def training_loss(task: str, name: str | None) -> str:
    """Return the name of a task's training loss: `name`, or the default if None. Raises ``ConfigError`` if the task does not have it."""
    if name is not None and name not in LOSSES[task]:
        raise ConfigError(f"loss {name!r} is not a loss of a {task} task{did_you_mean(name, LOSSES[task])}")
    return name or LOSSES[task][0]


def check_targets(task: str, loss: str | None, scale: str, targets: np.ndarray) -> None:
    """Check that a task can be trained with a loss (None: the default one) and a target `scale` (``linear`` or ``log``) on these targets.

    Raises ``ConfigError`` for a loss that the task does not have, for ``log`` outside regression, and for a single label in a multilabel
    task. Raises ``DataError`` for targets of 0 with loss ``mape``, and for targets of 0 or below with ``log``.
    """
    training_loss(task, loss)
    if task == "multilabel" and targets.shape[1] < 2:
        raise ConfigError("a multilabel task needs at least two labels; one label alone is a binary task")
    if task != "regression":
        if scale != "linear":
            raise ConfigError(f"target: {scale} is for regression, but the task is {task}")
        return
    if loss == "mape" and (targets == 0).any():
        zeros = int((targets == 0).sum())
        raise DataError(f"loss mape divides by the target, but {zeros} of {len(targets)} targets are 0; choose mse, mae or huber")
    if scale == "log" and targets.min() <= 0:
        raise DataError(f"target: log needs targets above 0 but the smallest is {targets.min():g}; use target: linear")
