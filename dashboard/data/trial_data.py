"""DataFrames of one trial: its metrics by epoch, and its predictions on the validation images.

`pictures` is that of `TrialRecord.report`: the result of `diagnostics.diagnose`, whose diagnostics depend on the task.
"""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from search.record.records import TrialRecord

FIRST_METRICS = ("objective", "train_loss", "loss")
LAST_METRICS = ("learning_rate", "images_per_second", "seconds_training", "seconds_evaluation")
MOST_CLASSES = 30
"""Greatest number of classes for which a confusion matrix is shown. For more, the most frequent confusions are shown instead."""
MOST_PAIRS = 20


def metrics(trial: TrialRecord) -> pd.DataFrame:
    """Return a row per metric and epoch: epoch (from 1), metric (name), value; no row before the first epoch.

    The first metric is the one that equals the objective in each epoch, or the objective itself if none does. Raises ``StorageError`` if
    the artifact with the trial's history is missing or damaged.
    """
    history = trial.history
    between = [name for name in history if name not in (*FIRST_METRICS, *LAST_METRICS)]
    first = next((name for name in (*between, *FIRST_METRICS) if history.get(name) == history.get("objective")), "objective")
    order = [
        name
        for name in dict.fromkeys((first, *FIRST_METRICS, *between, *LAST_METRICS))
        if name in history and (name != "objective" or name == first)
    ]
    rows = [(epoch, name, value) for name in order for epoch, value in enumerate(history[name], start=1)]
    return pd.DataFrame(rows, columns=["epoch", "metric", "value"])


def confusion(pictures: Mapping[str, Any]) -> pd.DataFrame:
    """Return the confusion matrix of a trial's `pictures`: the number of images by true class (rows) and predicted class (columns)."""
    classes = [str(name) for name in pictures["classes"]]
    frame = pd.DataFrame(0, range(len(classes)), range(len(classes)))
    for truth, predicted, count in pictures["confusion"]:
        frame.iat[truth, predicted] = count
    return frame.set_axis(classes).set_axis(classes, axis=1)


def confused(pictures: Mapping[str, Any]) -> pd.DataFrame:
    """Return a row per pair of confused classes in a trial's `pictures`, at most the `MOST_PAIRS` most frequent ones, most images first.

    Columns: "true → predicted" (the two names as text), "images" (number).
    """
    classes = pictures["classes"]
    wrong = [(f"{classes[truth]} → {classes[predicted]}", count) for truth, predicted, count in pictures["confusion"] if truth != predicted]
    return pd.DataFrame(wrong[:MOST_PAIRS], columns=["true → predicted", "images"])


def reliability(pictures: Mapping[str, Any]) -> pd.DataFrame:
    """Return a row per bin of predicted probability in a trial's `pictures`, the lowest first: predicted, correct, images.

    `predicted`: mean predicted probability (%). `correct`: share of right predictions (%). `images`: number of predictions.
    """
    frame = pd.DataFrame(pictures["reliability"], columns=["predicted", "correct", "images"], dtype=float)
    return frame.assign(predicted=100 * frame["predicted"], correct=100 * frame["correct"])


def calibration_error(frame: pd.DataFrame) -> float:
    """Return the expected calibration error in percentage points: the mean of |predicted - correct| over bins, weighted by images.

    `frame` is from `reliability`.
    """
    return float(((frame["predicted"] - frame["correct"]).abs() * frame["images"]).sum() / frame["images"].sum())


def precision(pictures: Mapping[str, Any]) -> pd.DataFrame:
    """Return a row per label that an image of a trial's `pictures` has, the lowest precision first.

    Columns: "label" (name), "average precision" (0 to 1), "images" (number with that label).
    """
    classes = pictures["classes"]
    rows = [(str(classes[label]), value, count) for label, value, count in pictures["precision"]]
    return pd.DataFrame(rows, columns=["label", "average precision", "images"]).sort_values("average precision", kind="stable")


def scatter(pictures: Mapping[str, Any]) -> pd.DataFrame:
    """Return a row per image of a regression trial's `pictures`: truth, prediction (in the target's unit); at most 1,000 images."""
    return pd.DataFrame(pictures["scatter"], columns=["truth", "prediction"])
