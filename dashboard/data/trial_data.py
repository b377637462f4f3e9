"""DataFrames of one trial: its metrics by epoch, and its predictions on the validation images."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from search.record.records import TrialRecord

FIRST_METRICS = ("objective", "train_loss", "loss")
LAST_METRICS = ("learning_rate", "images_per_second", "seconds_training", "seconds_evaluation")
MOST_CLASSES = 30
"""A confusion matrix shows at most so many classes. For more classes, the most frequent confusions are shown instead."""
MOST_PAIRS = 20


def metrics(trial: TrialRecord) -> pd.DataFrame:
    """Return a row per epoch and metric: epoch, metric, value; the objective first, under the name of its metric if that is recorded.

    Raises ``StorageError`` if the trial's history is missing or malformed.
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
    """Return the number of images by true class (rows) and predicted class (columns)."""
    classes = [str(name) for name in pictures["classes"]]
    frame = pd.DataFrame(0, range(len(classes)), range(len(classes)))
    for truth, predicted, count in pictures["confusion"]:
        frame.iat[truth, predicted] = count
    return frame.set_axis(classes).set_axis(classes, axis=1)


def confused(pictures: Mapping[str, Any]) -> pd.DataFrame:
    """Return the `MOST_PAIRS` most frequent confusions: true → predicted, images."""
    classes = pictures["classes"]
    wrong = [(f"{classes[truth]} → {classes[predicted]}", count) for truth, predicted, count in pictures["confusion"] if truth != predicted]
    return pd.DataFrame(wrong[:MOST_PAIRS], columns=["true → predicted", "images"])


def reliability(pictures: Mapping[str, Any]) -> pd.DataFrame:
    """Return a row per bin of predicted probability: predicted, correct (both in %), images."""
    frame = pd.DataFrame(pictures["reliability"], columns=["predicted", "correct", "images"], dtype=float)
    return frame.assign(predicted=100 * frame["predicted"], correct=100 * frame["correct"])


def calibration_error(frame: pd.DataFrame) -> float:
    """Return the expected calibration error of `reliability`, in percentage points: the mean distance, weighted by images."""
    return float(((frame["predicted"] - frame["correct"]).abs() * frame["images"]).sum() / frame["images"].sum())


def precision(pictures: Mapping[str, Any]) -> pd.DataFrame:
    """Return a row per label, the lowest precision first: label, average precision, images with that label."""
    classes = pictures["classes"]
    rows = [(str(classes[label]), value, count) for label, value, count in pictures["precision"]]
    return pd.DataFrame(rows, columns=["label", "average precision", "images"]).sort_values("average precision", kind="stable")


def scatter(pictures: Mapping[str, Any]) -> pd.DataFrame:
    """Return a row per image: truth, prediction."""
    return pd.DataFrame(pictures["scatter"], columns=["truth", "prediction"])
