"""Records → DataFrames: everything a chart or a table shows is computed here."""

import math
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import pandas as pd

from search.records import StudyRecord, TrialRecord
from search.tell import in_words
from trainables.errors import StorageError

HYPERPARAMETERS = (
    "backbone",
    "optimizer",
    "learning_rate",
    "unfrozen_stages",
    "head_layers",
    "dropout",
    "batch_size",
    "augmentation_strength",
)
ROLES = {"winner": "winner", "default_recipe": "default recipe"}


def trials(record: StudyRecord) -> pd.DataFrame:
    """Return a row per trial: number, state, value, epochs, duration (s), main hyperparameters, why it ended."""
    rows = [
        {
            "trial": trial.number,
            "state": trial.state,
            "value": trial.value,
            "epochs": f"{trial.epochs_done}/{trial.epochs_planned}",
            "seconds": _seconds(trial),
            **{name: trial.config.get(name) for name in HYPERPARAMETERS},
            "why it ended": _ending(trial),
        }
        for trial in record.trials
    ]
    columns = ["trial", "state", "value", "epochs", "seconds", *HYPERPARAMETERS, "why it ended"]
    return pd.DataFrame(rows, columns=columns)


def _seconds(trial: TrialRecord) -> float | None:
    return (trial.ended - trial.started).total_seconds() if trial.started and trial.ended else None


def _ending(trial: TrialRecord) -> str:
    default = "the default recipe" if trial.is_default_recipe else ""
    reason = trial.stop_reason or ("all its epochs are done" if trial.state == "finished" else "")
    return "; ".join(part for part in (default, reason) if part)


def curves(record: StudyRecord) -> pd.DataFrame:
    """Return a row per reported epoch: trial, role (best, default recipe, or its state), progress (%), value."""
    rows = [
        {"trial": trial.number, "role": _role(trial, record), "progress": step / 10, "value": value}
        for trial in record.trials
        for step, value in sorted(trial.intermediate.items())
    ]
    return pd.DataFrame(rows, columns=["trial", "role", "progress", "value"])


def _role(trial: TrialRecord, record: StudyRecord) -> str:
    if record.best is not None and trial.number == record.best.number:
        return "best"
    return "default recipe" if trial.is_default_recipe else trial.state


def best_so_far(record: StudyRecord) -> pd.DataFrame:
    """Return a row per trial that ended with a value, by time: trial, state, minutes since the first began, value, best.

    `best` is the best finished value until then; NaN before the first.
    """
    begun = began(record)
    ended = sorted((t for t in record.trials if t.state in ("finished", "stopped") and t.ended), key=lambda t: t.ended or datetime.max)
    rows = [
        {"trial": t.number, "state": t.state, "minutes": (t.ended - begun).total_seconds() / 60, "value": t.value}
        for t in ended
        if begun and t.ended and t.value is not None
    ]
    frame = pd.DataFrame(rows, columns=["trial", "state", "minutes", "value"])
    finished = frame["value"].astype(float).where(frame["state"] == "finished")
    return frame.assign(best=(finished.cummax() if record.mode == "max" else finished.cummin()).ffill())


def losses(trial: TrialRecord) -> pd.DataFrame:
    """Return a row per epoch and split: epoch, split, loss. Raises ``StorageError`` if the trial's history is gone or broken."""
    try:
        history = trial.history
    except ValueError as error:
        raise StorageError(f"the history of trial {trial.number} is not readable: {error}") from None
    rows = [
        {"epoch": epoch, "split": split, "loss": value}
        for split, name in (("training", "train_loss"), ("validation", "loss"))
        for epoch, value in enumerate(history.get(name, []), start=1)
    ]
    return pd.DataFrame(rows, columns=["epoch", "split", "loss"])


def configuration(trial: TrialRecord) -> list[str]:
    """Return a trial's configuration as sentences. Raises ``StorageError`` if something is missing in it."""
    try:
        return in_words(trial.config)
    except (KeyError, AttributeError) as error:
        raise StorageError(f"the configuration of trial {trial.number} is of another version of injerto: {error}") from None


def scores(record: StudyRecord) -> pd.DataFrame:
    """Return the test scores, a row for the winner and one for the default recipe, the study's metric first; no rows before they exist."""
    found = {words: record.test[role]["test"] for role, words in ROLES.items() if role in record.test}
    known = dict.fromkeys(name for values in found.values() for name in values)
    order = sorted(known, key=lambda name: name != record.metric)
    return pd.DataFrame([{"": words} | {name: values.get(name) for name in order} for words, values in found.items()])


def studies(records: Sequence[StudyRecord]) -> pd.DataFrame:
    """Return a row per study, the latest first: what a card shows."""
    return pd.DataFrame([_card(record) for record in reversed(records)])


def _card(record: StudyRecord) -> dict[str, Any]:
    frame = best_so_far(record)
    return {
        "study": record.name,
        "state": record.state,
        "why": record.why,
        "metric": record.metric,
        "best": record.best.value if record.best else None,
        "gain": gain(record) or 0.0,
        "counts": record.counts,
        "planned": planned(record),
        "seconds": record.seconds,
        "began": began(record),
        "sparkline": frame["best"].dropna().tolist(),
        "dataset": in_a_line(record),
    }


def gain(record: StudyRecord) -> float | None:
    """Return by how much the best trial is better than the default recipe, in the metric's unit; None before both have ended."""
    best, default = record.best, record.default_recipe
    if best is None or default is None or best.value is None or default.value is None or default.state not in ("finished", "stopped"):
        return None
    return (best.value - default.value) * (1 if record.mode == "max" else -1) + 0.0  # no negative zero


def began(record: StudyRecord) -> datetime | None:
    """Return when the first trial began."""
    return min((trial.started for trial in record.trials if trial.started), default=None)


def planned(record: StudyRecord) -> int:
    """Return how many trials the study was given, never fewer than it has."""
    return max(record.config.get("budget", {}).get("trials") or 0, len(record.trials))


def in_a_line(record: StudyRecord) -> str:
    """Return what the study's images are."""
    dataset = record.dataset
    classes = len(dataset.get("classes") or ()) if dataset.get("task") != "regression" else 0
    images = ", ".join(f"{count:,} {split}" for split, count in dataset.get("images", {}).items())
    return f"{dataset.get('task', '')}{f', {classes} classes' if classes else ''} · {images} images at {dataset.get('image_size', '?')} px"


def duration(seconds: float | None) -> str:
    """Return a duration in its two largest units; a dash for None."""
    if seconds is None or not math.isfinite(seconds):
        return "–"
    left = round(max(0.0, seconds))
    parts: list[str] = []
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        count, left = divmod(left, size)
        if count or (unit == "s" and not parts):
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2])
