"""Records → DataFrames: what the screens about whole studies show is computed here."""

import math
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import pandas as pd

from search.display.summary import in_words
from search.record.records import StudyRecord, TrialRecord
from trainables.errors import StorageError

ROLES = {"winner": "winner", "default_recipe": "default recipe"}
MOST_CURVES = 120
"""Trials whose learning curves are drawn: the best of them and the latest."""
BOUNDED = {"accuracy", "balanced_accuracy", "macro_f1", "micro_f1", "f1", "auroc", "average_precision", "map", "top5", "hamming"}
"""Metrics that lie between 0 and 1."""


def drawn(record: StudyRecord) -> list[TrialRecord]:
    """Return the trials whose curves are drawn: all of a small study, of a large one the best, the latest and those that run."""
    reported = [trial for trial in record.trials if trial.intermediate]
    if len(reported) <= MOST_CURVES:
        return reported
    chosen = {trial.number for trial in record.ranking[: MOST_CURVES // 2 - 1]} | {0}
    chosen |= {trial.number for trial in reported[-MOST_CURVES // 2 :]} | {trial.number for trial in reported if trial.state == "running"}
    return [trial for trial in reported if trial.number in chosen]


def curves(record: StudyRecord, trials: Iterable[TrialRecord]) -> pd.DataFrame:
    """Return a row per reported epoch: trial, role (best, default recipe, or its state), progress (%), value."""
    rows = [
        (trial.number, role, step / 10, value)
        for trial in trials
        for role in (role_of(trial, record),)
        for step, value in sorted(trial.intermediate.items())
    ]
    return pd.DataFrame(rows, columns=["trial", "role", "progress", "value"])


def role_of(trial: TrialRecord, record: StudyRecord) -> str:
    """Return how a trial is drawn: as the best, as the default recipe, or by its state."""
    if record.best is not None and trial.number == record.best.number:
        return "best"
    return "default recipe" if trial.is_default_recipe else trial.state


def rungs(record: StudyRecord) -> list[float]:
    """Return where weak trials are stopped, in % of a trial's epochs; none where none are."""
    algorithm = record.config.get("algorithm", {})
    factor = algorithm.get("reduction_factor", 3)
    return [100 / factor**2, 100 / factor] if algorithm.get("scheduler", "asha") == "asha" else []


def best_so_far(record: StudyRecord) -> pd.DataFrame:
    """Return a row per trial that ended with a value, by time: trial, state, ended (how many had by then), minutes, value, best.

    `minutes` count from when the first trial began; `best` is the best finished value until then, NaN before the first.
    """
    begun = began(record)
    ended = sorted((t for t in record.trials if t.state in ("finished", "stopped") and t.ended), key=lambda t: t.ended or datetime.max)
    rows = [
        (t.number, t.state, (t.ended - begun).total_seconds() / 60, t.value) for t in ended if begun and t.ended and t.value is not None
    ]
    frame = pd.DataFrame(rows, columns=["trial", "state", "minutes", "value"])
    finished = frame["value"].astype(float).where(frame["state"] == "finished")
    best = (finished.cummax() if record.mode == "max" else finished.cummin()).ffill()
    return frame.assign(ended=range(1, len(frame) + 1), best=best)


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
        "sparkline": frame["best"].dropna().iloc[:: max(1, len(frame) // 100)].tolist(),
        "dataset": in_a_line(record),
    }


def gain(record: StudyRecord) -> float | None:
    """Return by how much the best trial is better than the default recipe, in the metric's unit; None before both have ended."""
    best, default = record.best, record.default_recipe
    if best is None or default is None or best.value is None or default.value is None or default.state not in ("finished", "stopped"):
        return None
    return (best.value - default.value) * (1 if record.mode == "max" else -1) + 0.0  # no negative zero


def interval(record: StudyRecord) -> tuple[float, float] | None:
    """Return the 95 % interval of the best trial's value for the draw of the validation images, None where it is not known."""
    if record.best is None:
        return None
    found = (record.best.account.get("pictures") or {}).get("interval")
    if not found or not all(map(math.isfinite, found)):
        return None
    low, high = found
    return (max(low, 0.0), min(high, 1.0)) if record.metric in BOUNDED else (low, high)


def ahead(record: StudyRecord) -> str | None:
    """Say which open trial is ahead, before any has ended."""
    values = [(trial.value, trial.number) for trial in record.trials if trial.state in ("running", "paused") and trial.value is not None]
    if not values:
        return None
    value, number = max(values) if record.mode == "max" else min(values)
    return f"trial {number} is at {value:.4g}"


def throughput(record: StudyRecord) -> tuple[float, float]:
    """Return trials an hour, and images a second of the trials that run, summed."""
    ended = sum(record.counts[state] for state in ("finished", "stopped", "failed"))
    histories = [trial.attributes.get("history", {}) for trial in record.trials if trial.state == "running"]
    speeds = [history.get("images_per_second", [0.0])[-1] for history in histories]
    return 3600 * ended / record.seconds if record.seconds else 0.0, sum(speeds)


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
    kind = "labels" if dataset.get("task") == "multilabel" else "classes"
    return f"{dataset.get('task', '')}{f', {classes} {kind}' if classes else ''} · {images} images at {dataset.get('image_size', '?')} px"


def nodes(record: StudyRecord) -> pd.DataFrame:
    """Return a row per node that the search has: whether it is there, processors and GPUs, how busy (%), memory (GB)."""
    rows = [
        {
            "node": node.get("node"),
            "there": bool(node.get("alive")),
            "processors": node.get("cpus"),
            "processors in use": None if node.get("cpu") is None else 100 * node["cpu"],
            "memory in use": None if not node.get("memory_total") else 100 * node["memory"] / node["memory_total"],
            "memory": None if not node.get("memory_total") else node["memory_total"] / 1e9,
            "GPUs": node.get("gpus"),
            "GPU memory in use": None if not node.get("gpu_memory_total") else 100 * node["gpu_memory"] / node["gpu_memory_total"],
            "GPU": node.get("gpu"),
        }
        for node in record.cluster.get("nodes", ())
    ]
    return pd.DataFrame(rows)


def spans(record: StudyRecord) -> pd.DataFrame:
    """Return a row per stretch that a worker was at a trial: trial, state, worker, began and ended (local time), why it ended."""
    rows = []
    for trial in record.trials:
        attributes = trial.attributes
        told = attributes.get("spans") or attributes.get("facts", {}).get("spans") or ()
        rows += [
            (trial.number, trial.state, worker, datetime.fromtimestamp(begun), datetime.fromtimestamp(until), trial.stop_reason)
            for worker, begun, until in told
        ]
    frame = pd.DataFrame(rows, columns=["trial", "state", "worker", "began", "ended", "why"])
    return frame.astype({"began": "datetime64[us]", "ended": "datetime64[us]"})


def busy(frame: pd.DataFrame) -> float | None:
    """Return which share of the time between its first and its last work each worker of `spans` was at work, on average."""
    if frame.empty:
        return None
    worked = (frame["ended"] - frame["began"]).dt.total_seconds().groupby(frame["worker"]).sum()
    there = frame.groupby("worker").agg({"began": "min", "ended": "max"})
    total = (there["ended"] - there["began"]).dt.total_seconds().sum()
    return float(min(1.0, worked.sum() / total)) if total else None
