"""One trial → DataFrames: the curves of its metrics, and what its network makes of the validation images."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from search.record.records import TrialRecord

FIRST = ("objective", "train_loss", "loss")
LAST = ("learning_rate", "images_per_second", "seconds_training", "seconds_evaluation")
MOST_CLASSES = 30
"""Classes that a confusion matrix can show; of more, the pairs that are confused most often are shown."""
MOST_PAIRS = 20


def metrics(trial: TrialRecord) -> pd.DataFrame:
    """Return a row per epoch and metric: epoch, metric, value; the objective first, under its metric's name if it is one.

    Raises ``StorageError`` if the trial's history is gone or broken.
    """
    history = trial.history
    between = [name for name in history if name not in (*FIRST, *LAST)]
    first = next((name for name in (*between, *FIRST) if history.get(name) == history.get("objective")), "objective")
    order = [name for name in dict.fromkeys((first, *FIRST, *between, *LAST)) if name in history and (name != "objective" or name == first)]
    rows = [(epoch, name, value) for name in order for epoch, value in enumerate(history[name], start=1)]
    return pd.DataFrame(rows, columns=["epoch", "metric", "value"])


def confusion(pictures: Mapping[str, Any]) -> pd.DataFrame:
    """Return the images by true class (rows) and predicted class (columns)."""
    classes = [str(name) for name in pictures["classes"]]
    frame = pd.DataFrame(0, range(len(classes)), range(len(classes)))
    for truth, said, count in pictures["confusion"]:
        frame.iat[truth, said] = count
    return frame.set_axis(classes).set_axis(classes, axis=1)


def confused(pictures: Mapping[str, Any]) -> pd.DataFrame:
    """Return the pairs of classes that are confused most often: taken for, images."""
    classes = pictures["classes"]
    wrong = [(f"{classes[truth]} → {classes[said]}", count) for truth, said, count in pictures["confusion"] if truth != said]
    return pd.DataFrame(wrong[:MOST_PAIRS], columns=["taken for", "images"])


def reliability(pictures: Mapping[str, Any]) -> pd.DataFrame:
    """Return a row per bin of predicted probability: said, right (both in %), images."""
    frame = pd.DataFrame(pictures["reliability"], columns=["said", "right", "images"], dtype=float)
    return frame.assign(said=100 * frame["said"], right=100 * frame["right"])


def calibration_error(frame: pd.DataFrame) -> float:
    """Return by how many points the predicted probabilities are off, weighted by images: the expected calibration error."""
    return float(((frame["said"] - frame["right"]).abs() * frame["images"]).sum() / frame["images"].sum())


def precision(pictures: Mapping[str, Any]) -> pd.DataFrame:
    """Return a row per label, the worst first: label, average precision, images with it."""
    classes = pictures["classes"]
    rows = [(str(classes[label]), value, count) for label, value, count in pictures["precision"]]
    return pd.DataFrame(rows, columns=["label", "average precision", "images"]).sort_values("average precision", kind="stable")


def scatter(pictures: Mapping[str, Any]) -> pd.DataFrame:
    """Return a row per image: truth, prediction."""
    return pd.DataFrame(pictures["scatter"], columns=["truth", "prediction"])
