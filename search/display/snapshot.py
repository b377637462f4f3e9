"""How a study stands, from its record alone: what `status --watch` shows, and what a resumed search begins with."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from search.display.view import TROUBLES, Best, Row, Snapshot
from search.events import ENDED, Gauge
from search.forecast.time_left import Pace, seconds_left
from search.formatting import in_brief

if TYPE_CHECKING:
    from search.record.records import StudyRecord, TrialRecord


def snapshot_of(record: "StudyRecord") -> Snapshot:
    """Return how a study stands."""
    ended = sorted((t for t in record.trials if t.state in ENDED), key=lambda t: t.ended or datetime.min)
    running = [trial for trial in record.trials if trial.state == "running"]
    budget = record.config.get("budget", {})
    troubles = [f"trial {trial.number} failed: {trial.stop_reason}" for trial in ended if trial.state == "failed"]
    return Snapshot(
        metric=record.metric,
        counts=record.counts | {"queued": to_come(record, budget)},
        gauges=gauges(record, ended, budget),
        best=best_of(record),
        left=None if record.why else time_of(record, ended, running, budget),
        running=[_row(trial) for trial in running],
        troubles=troubles[-TROUBLES:],
    )


def to_come(record: "StudyRecord", budget: Mapping[str, Any]) -> int:
    """Return how many trials have not begun, those of the budget that are not in the record yet among them."""
    counts = record.counts
    begun = sum(count for state, count in counts.items() if state != "queued")
    return max(counts["queued"], (budget.get("trials") or 0) - begun) if record.state == "running" else counts["queued"]


def best_of(record: "StudyRecord") -> Best | None:
    """Return the best finished trial, if there is one."""
    best, default = record.best, record.default_recipe
    if best is None or best.value is None or best.state != "finished":
        return None
    finished = default is not None and default.state == "finished"
    gain = best.value - default.value if finished and default is not None and default.value is not None else None
    began = min((trial.started for trial in record.trials if trial.started), default=None)
    after = min(record.seconds, (best.ended - began).total_seconds()) if best.ended and began else None
    return Best(best.number, best.value, after, gain, _curve(best))


def gauges(record: "StudyRecord", ended: Sequence["TrialRecord"], budget: Mapping[str, Any]) -> list[Gauge]:
    """Return how much of each budget is used, trials first; `ended` in the order in which they ended."""
    gpu = sum(trial.attributes.get("gpu_seconds", 0.0) for trial in record.trials)
    limits = [
        Gauge("trials", len(ended), budget.get("trials") or 0, "trials"),
        Gauge("time", record.seconds, budget.get("time") or 0, "s"),
        Gauge("GPU-hours", gpu / 3600, budget.get("gpu_hours") or 0, "GPU-h"),
        Gauge("no improvement", since_best(ended, record.mode), budget.get("no_improvement") or 0, "trials"),
    ]
    return [gauge for gauge in limits if gauge.limit]


def since_best(ended: Sequence["TrialRecord"], mode: str) -> int:
    """Return how many trials in a row have ended without a better value; failed ones say nothing."""
    best, since, sign = None, 0, 1 if mode == "max" else -1
    for trial in ended:
        if trial.state == "finished" and trial.value is not None and (best is None or sign * trial.value > sign * best):
            best, since = trial.value, 0
        elif trial.state != "failed" and best is not None:
            since += 1
    return since


def time_of(
    record: "StudyRecord", ended: Sequence["TrialRecord"], running: Sequence["TrialRecord"], budget: Mapping[str, Any]
) -> float | None:
    """Return the seconds that a running study still needs, by the pace of its trials and at most what its budget leaves."""
    now = datetime.now()
    paces = [
        Pace((now - t.started).total_seconds(), t.epochs_done, t.epochs_planned - t.epochs_done, t.epochs_planned)
        for t in running
        if t.started
    ]
    lasted = [(t.ended - t.started).total_seconds() for t in ended if t.started and t.ended and t.state != "failed"]
    share = 0.5 if record.config.get("algorithm", {}).get("scheduler") == "asha" else 1.0
    left = seconds_left(paces, lasted, waiting=to_come(record, budget), slots=len(running), share=share)
    if left is None or not budget.get("time"):
        return left
    return min(left, max(0.0, float(budget["time"]) - record.seconds))


def objectives(trial: "TrialRecord") -> dict[int, float]:
    """Return a trial's objective by epoch; its record has it by progress in per mille."""
    return {round(step * trial.epochs_planned / 1000): value for step, value in sorted(trial.intermediate.items())}


def _row(trial: "TrialRecord") -> Row:
    config = in_brief(trial.config) if trial.config else ""
    speeds = trial.attributes.get("history", {}).get("images_per_second", [])
    return Row(trial.number, trial.epochs_done, trial.epochs_planned, config, _curve(trial), speeds[-1] if speeds else None)


def _curve(trial: "TrialRecord") -> list[float]:
    return list(objectives(trial).values())
