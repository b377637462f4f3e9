"""The snapshot of a study from its record alone, for `status --watch`, the dashboard and a resumed search."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from search.config import EARLY_STOPPING
from search.display.view import MAX_PROBLEMS, Best, RunningRow, Snapshot
from search.events import ENDED, Gauge
from search.forecast.time_left import SHARE_WITH_RUNGS, Pace, seconds_left
from search.formatting import brief_configuration
from search.policy.budget import BestSoFar, gauges

if TYPE_CHECKING:
    from search.record.records import StudyRecord, TrialRecord


def snapshot_of(record: "StudyRecord") -> Snapshot:
    """Return the state of a study when the record was read, for the views of `search.display.view`."""
    ended = sorted((t for t in record.trials if t.state in ENDED), key=lambda t: t.ended or datetime.min)
    running = [trial for trial in record.trials if trial.state == "running"]
    budget = record.config.get("budget", {})
    problems = [f"trial {trial.number} failed: {trial.stop_reason}" for trial in ended if trial.state == "failed"]
    return Snapshot(
        metric=record.metric,
        counts=record.counts | {"queued": queued_trials(record, budget)},
        gauges=gauges_of(record, ended, budget),
        best=best_trial(record),
        seconds_left=None if record.why else estimate_seconds_left(record, ended, running, budget),
        running=[_running_row(trial) for trial in running],
        problems=problems[-MAX_PROBLEMS:],
    )


def queued_trials(record: "StudyRecord", budget: Mapping[str, Any]) -> int:
    """Return how many trials have not begun; `budget` is that section of the configuration.

    While the search runs, this includes trials of the budget that are not in the record yet.
    """
    counts = record.counts
    begun = sum(count for state, count in counts.items() if state != "queued")
    return max(counts["queued"], (budget.get("trials") or 0) - begun) if record.state == "running" else counts["queued"]


def best_trial(record: "StudyRecord") -> Best | None:
    """Return the best finished trial, None if none has finished. Its gain is None if the default recipe has not finished."""
    best, default = record.best, record.default_recipe
    if best is None or best.value is None or best.state != "finished":
        return None
    finished = default is not None and default.state == "finished"
    gain = best.value - default.value if finished and default is not None and default.value is not None else None
    began = min((trial.started for trial in record.trials if trial.started), default=None)
    after = min(record.seconds, (best.ended - began).total_seconds()) if best.ended and began else None
    return Best(best.number, best.value, after, gain, _curve(best))


def gauges_of(record: "StudyRecord", ended: Sequence["TrialRecord"], budget: Mapping[str, Any]) -> list[Gauge]:
    """Return a gauge for each budget that has a limit, trials first. `budget` is that section of the configuration.

    `ended` are the trials that have ended, in the order in which they did.
    """
    used = {
        "trials": len(ended),
        "time": record.seconds,
        "gpu_hours": sum(trial.attributes.get("gpu_seconds", 0.0) for trial in record.trials) / 3600,
        "no_improvement": trials_since_best(ended, record.mode),
    }
    return gauges(used, budget)


def trials_since_best(ended: Sequence["TrialRecord"], mode: str) -> int:
    """Return how many trials have ended since the best one; failed trials do not count. 0 before the first has finished.

    `ended` must be in the order in which the trials ended; `mode` is ``max`` or ``min``.
    """
    best = BestSoFar(mode)
    for trial in ended:
        if trial.state == "finished" and trial.value is not None:
            best.completed(trial.value)
        elif trial.state != "failed":
            best.stopped()
    return best.trials_since


def estimate_seconds_left(
    record: "StudyRecord", ended: Sequence["TrialRecord"], running: Sequence["TrialRecord"], budget: Mapping[str, Any]
) -> float | None:
    """Return how many seconds a running study still needs, None before its first epoch has ended.

    Estimated from the pace of its trials (`ended` and `running`), and at most what its time budget leaves.
    """
    now = datetime.now()
    paces = [
        Pace((now - t.started).total_seconds(), t.epochs_done, t.epochs_planned - t.epochs_done, t.epochs_planned)
        for t in running
        if t.started
    ]
    durations = [(t.ended - t.started).total_seconds() for t in ended if t.started and t.ended and t.state != "failed"]
    stops_early = record.config.get("algorithm", {}).get("scheduler") in EARLY_STOPPING
    share = SHARE_WITH_RUNGS if stops_early else 1.0
    left = seconds_left(paces, durations, waiting=queued_trials(record, budget), slots=len(running), share=share)
    if left is None or not budget.get("time"):
        return left
    return min(left, max(0.0, float(budget["time"]) - record.seconds))


def objective_by_epoch(trial: "TrialRecord") -> dict[int, float]:
    """Return 1-based epoch → the trial's objective after it. The record has per mille of the planned epochs in place of the epoch."""
    return {round(step * trial.epochs_planned / 1000): value for step, value in sorted(trial.intermediate.items())}


def _running_row(trial: "TrialRecord") -> RunningRow:
    config = brief_configuration(trial.config) if trial.config else ""
    speeds = trial.attributes.get("history", {}).get("images_per_second", [])
    return RunningRow(trial.number, trial.epochs_done, trial.epochs_planned, config, _curve(trial), speeds[-1] if speeds else None)


def _curve(trial: "TrialRecord") -> list[float]:
    return list(objective_by_epoch(trial).values())
