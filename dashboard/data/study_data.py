"""DataFrames, numbers and texts on whole studies, for the screens and the report."""

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import pandas as pd

from search.display.summary import describe_configuration
from search.events import ENDED
from search.policy.rungs import rung_positions
from search.record.records import StudyRecord, TrialRecord
from trainables.errors import StorageError
from trainables.objectives import IN_UNIT_INTERVAL, sign

ROLES = {"winner": "winner", "refit": "winner, trained on training and validation images", "default_recipe": "default recipe"}
MOST_CURVES = 120
"""Greatest number of learning curves that are drawn, besides those of running trials."""


def trials_to_draw(record: StudyRecord) -> list[TrialRecord]:
    """Return the trials whose learning curves are drawn: all that have reported an epoch, if these are at most `MOST_CURVES`.

    Of more, the default recipe, the best, the latest and the running ones.
    """
    reported = [trial for trial in record.trials if trial.intermediate]
    if len(reported) <= MOST_CURVES:
        return reported
    chosen = {trial.number for trial in record.ranking[: MOST_CURVES // 2 - 1]} | {0}
    chosen |= {trial.number for trial in reported[-MOST_CURVES // 2 :]} | {trial.number for trial in reported if trial.state == "running"}
    return [trial for trial in reported if trial.number in chosen]


def learning_curves(record: StudyRecord, trials: Iterable[TrialRecord]) -> pd.DataFrame:
    """Return a row per reported epoch of `trials`: trial (number), role (see `role_of`), progress (% of its planned epochs), value."""
    rows = [
        (trial.number, role, step / 10, value)
        for trial in trials
        for role in (role_of(trial, record),)
        for step, value in sorted(trial.intermediate.items())
    ]
    return pd.DataFrame(rows, columns=["trial", "role", "progress", "value"])


def role_of(trial: TrialRecord, record: StudyRecord) -> str:
    """Return the role of a trial in the charts, a key of `theme.STYLES`: "best", "default recipe", or its state."""
    if record.best is not None and trial.number == record.best.number:
        return "best"
    return "default recipe" if trial.is_default_recipe else trial.state


def rung_percentages(record: StudyRecord) -> list[float]:
    """Return the rungs of successive halving in % of a trial's epochs, the lowest first; empty if no scheduler stops trials early."""
    algorithm = record.config.get("algorithm", {})
    if algorithm.get("scheduler", "asha") != "asha":
        return []
    return [position / 10 for position in rung_positions(algorithm.get("reduction_factor", 3))]


def best_so_far(record: StudyRecord) -> pd.DataFrame:
    """Return a row per finished or stopped trial with a value, in the order of their ends: trial, state, minutes, value, ended, best.

    `minutes`: from the start of the first trial to the end of this one. `ended`: 1 for the first row, 2 for the second, and so on.
    `best`: the best value of a finished trial up to this row, NaN before the first.
    """
    start = first_start(record)
    ended = sorted((t for t in record.trials if t.state in ("finished", "stopped") and t.ended), key=lambda t: t.ended or datetime.max)
    rows = [
        (t.number, t.state, (t.ended - start).total_seconds() / 60, t.value) for t in ended if start and t.ended and t.value is not None
    ]
    frame = pd.DataFrame(rows, columns=["trial", "state", "minutes", "value"])
    finished = frame["value"].astype(float).where(frame["state"] == "finished")
    best = sign(record.mode) * (sign(record.mode) * finished).cummax().ffill()
    return frame.assign(ended=range(1, len(frame) + 1), best=best)


def configuration_sentences(trial: TrialRecord) -> list[str]:
    """Return a trial's configuration as sentences for the viewer: network, head, optimization, augmentation.

    Raises ``StorageError`` if a field is missing, as in a record of another version.
    """
    try:
        return describe_configuration(trial.config)
    except (KeyError, AttributeError) as error:
        raise StorageError(f"the configuration of trial {trial.number} is of another version of injerto: {error}") from None


def test_scores(record: StudyRecord) -> pd.DataFrame:
    """Return a row of test scores for the winner and one for the default recipe; no row before the test split is evaluated.

    The first column, named "", says which of them it is. Each other column is a metric, the study's own first.
    """
    scores = {label: record.test[role]["test"] for role, label in ROLES.items() if role in record.test}
    names = dict.fromkeys(name for values in scores.values() for name in values)
    order = sorted(names, key=lambda name: name != record.metric)
    return pd.DataFrame([{"": label} | {name: values.get(name) for name in order} for label, values in scores.items()])


def study_cards(records: Sequence[StudyRecord]) -> pd.DataFrame:
    """Return a row per study with what its card shows, in reverse order: the latest first if `records` has the oldest first.

    Columns: study (name), state, why, metric, best, gain (0 if unknown), counts (trials by state), planned (trials), seconds, began,
    sparkline (about 100 values of the best so far), dataset (a line of text).
    """
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
        "planned": planned_trials(record),
        "seconds": record.seconds,
        "began": first_start(record),
        "sparkline": frame["best"].dropna().iloc[:: max(1, len(frame) // 100)].tolist(),
        "dataset": describe_dataset(record),
    }


def gain(record: StudyRecord) -> float | None:
    """Return by how much the best trial beats the default recipe, in the unit of the metric: positive is better, also for ``min``.

    None before both have ended with a value.
    """
    best, default = record.best, record.default_recipe
    if best is None or default is None or best.value is None or default.value is None or default.state not in ("finished", "stopped"):
        return None
    return sign(record.mode) * (best.value - default.value) + 0.0  # + 0.0 turns -0.0 into 0.0


def interval(record: StudyRecord) -> tuple[float, float] | None:
    """Return (low, high), the 95 % interval of the best trial's value over random draws of the validation images; None if it is unknown.

    It is cut to 0 to 1 for a metric in that range. Raises ``StorageError`` if the trial's report is missing or damaged.
    """
    if record.best is None:
        return None
    interval = (record.best.report.get("pictures") or {}).get("interval")
    if not interval or not all(map(math.isfinite, interval)):
        return None
    low, high = interval
    return (max(low, 0.0), min(high, 1.0)) if record.metric in IN_UNIT_INTERVAL else (low, high)


def ended_trials(counts: Mapping[str, int]) -> int:
    """Return how many trials have ended. `counts`: state → number of trials, with every state."""
    return sum(counts[state] for state in ENDED)


def throughput(record: StudyRecord) -> tuple[float, float]:
    """Return the ended trials per hour of search, and the images per second of all running trials together in their latest epochs."""
    histories = [trial.attributes.get("history", {}) for trial in record.trials if trial.state == "running"]
    speeds = [history.get("images_per_second", [0.0])[-1] for history in histories]
    return 3600 * ended_trials(record.counts) / record.seconds if record.seconds else 0.0, sum(speeds)


def first_start(record: StudyRecord) -> datetime | None:
    """Return when the first trial began (local time), None before that."""
    return min((trial.started for trial in record.trials if trial.started), default=None)


def planned_trials(record: StudyRecord) -> int:
    """Return the study's budget of trials, or the number of its trials if that is larger or there is no such budget."""
    return max(record.config.get("budget", {}).get("trials") or 0, len(record.trials))


def describe_dataset(record: StudyRecord) -> str:
    """Return a line of text on the dataset: task, number of classes or labels, images of each split, and side of the images in pixels."""
    dataset = record.dataset
    classes = len(dataset.get("classes") or ()) if dataset.get("task") != "regression" else 0
    images = ", ".join(f"{count:,} {split}" for split, count in dataset.get("images", {}).items())
    kind = "labels" if dataset.get("task") == "multilabel" else "classes"
    return f"{dataset.get('task', '')}{f', {classes} {kind}' if classes else ''} · {images} images at {dataset.get('image_size', '?')} px"


def nodes(record: StudyRecord) -> pd.DataFrame:
    """Return a row per node of the cluster, as last reported; no row before the first report. An unknown value is missing.

    Columns: node (name), alive, CPUs and GPUs (number), memory (total, GB), GPU (model), and in %: CPUs, memory and GPU memory in use.
    """
    rows = [
        {
            "node": node.get("node"),
            "alive": bool(node.get("alive")),
            "CPUs": node.get("cpus"),
            "CPUs in use": None if node.get("cpu") is None else 100 * node["cpu"],
            "memory in use": None if not node.get("memory_total") else 100 * node["memory"] / node["memory_total"],
            "memory": None if not node.get("memory_total") else node["memory_total"] / 1e9,
            "GPUs": node.get("gpus"),
            "GPU memory in use": None if not node.get("gpu_memory_total") else 100 * node["gpu_memory"] / node["gpu_memory_total"],
            "GPU": node.get("gpu"),
        }
        for node in record.cluster.get("nodes", ())
    ]
    return pd.DataFrame(rows)


def work_spans(record: StudyRecord) -> pd.DataFrame:
    """Return a row per period in which a worker ran a trial: trial (number), state, worker (name), began, ended, why.

    `began` and `ended` are in local time. `why` says why the trial ended, empty if it has not. A trial that moved has several rows.
    """
    rows = []
    for trial in record.trials:
        attributes = trial.attributes
        periods = attributes.get("spans") or attributes.get("facts", {}).get("spans") or ()
        rows += [
            (trial.number, trial.state, worker, datetime.fromtimestamp(began), datetime.fromtimestamp(ended), trial.stop_reason)
            for worker, began, ended in periods
        ]
    frame = pd.DataFrame(rows, columns=["trial", "state", "worker", "began", "ended", "why"])
    return frame.astype({"began": "datetime64[us]", "ended": "datetime64[us]"})


def share_busy(frame: pd.DataFrame) -> float | None:
    """Return the share (0 to 1) of time that all workers were busy, each counted from the begin of its first period to the end of its last.

    `frame` is from `work_spans`. None if it has no row, or if no time has passed.
    """
    if frame.empty:
        return None
    worked = (frame["ended"] - frame["began"]).dt.total_seconds().groupby(frame["worker"]).sum()
    present = frame.groupby("worker").agg({"began": "min", "ended": "max"})
    total = (present["ended"] - present["began"]).dt.total_seconds().sum()
    return float(min(1.0, worked.sum() / total)) if total else None
