"""Records written by hand: hundreds of trials, planted failure regions, older versions."""

import dataclasses
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from optuna.distributions import CategoricalDistribution, FloatDistribution, distribution_to_json

from search.record.records import StudyRecord, TrialRecord

BEGAN = datetime(2026, 1, 1)
PARAMETERS = {
    "rate": {"sets": "rate", "range": distribution_to_json(FloatDistribution(1e-4, 1.0, log=True))},
    "kind": {"sets": "kind", "range": distribution_to_json(CategoricalDistribution(("x", "y")))},
}
RECENT = ("parameters", "space", "augmentation", "cluster")
"""Fields that records of the first version lack."""


def trial(number: int, state: str = "finished", value: float | None = 0.5, **more: Any) -> TrialRecord:
    """Return a trial of four epochs that took a minute; each trial starts when the one before it has ended."""
    params = more.pop("params", {"rate": 0.1, "kind": "x"})
    done = {"queued": 0, "failed": 1, "running": 2}.get(state, 4)
    known = {
        "number": number,
        "state": state,
        "value": value,
        "params": params,
        "config": dict(params),
        "epochs_planned": 4,
        "epochs_done": done,
        "objective_epoch": done,
        "stop_reason": "",
        "error": None,
        "intermediate": {250 * epoch: value for epoch in range(1, done + 1) if value is not None},
        "attributes": {},
        "started": BEGAN + timedelta(minutes=number),
        "ended": BEGAN + timedelta(minutes=number + 1) if state in ("finished", "stopped", "failed") else None,
        "root": "/nowhere",
    }
    return TrialRecord(**known | more)


def failed(number: int, kind: str = "other", message: str = "bad luck", **more: Any) -> TrialRecord:
    return trial(number, "failed", None, error={"kind": kind, "message": message, "traceback": message}, **more)


def study(*trials: TrialRecord, **more: Any) -> StudyRecord:
    known = {
        "name": "made-fig",
        "state": "running",
        "why": "",
        "metric": "accuracy",
        "mode": "max",
        "trials": trials,
        "config": {},
        "dataset": {"task": "multiclass", "classes": ["a", "b"], "images": {"train": 10}},
        "versions": {},
        "test": {},
        "test_evaluations": (),
        "folder": Path("/nowhere"),
        "root": "/nowhere",
        "seconds": 60.0,
        "parameters": PARAMETERS,
        "space": {"rate": "0.0001 to 1 (log)", "kind": "x, y"},
        "augmentation": {},
        "cluster": {},
        "notes": (),
    }
    return StudyRecord(**known | more)


def older(record: StudyRecord) -> StudyRecord:
    """Return a study as the first version recorded it, without ranges and trial reports."""
    removed = ("account", "spans", "node", "peak_memory_bytes", "trainable_parameters")
    trials = tuple(dataclasses.replace(trial, attributes=_without(trial.attributes, removed), root="/nowhere") for trial in record.trials)
    return dataclasses.replace(record, trials=trials, root=str(record.folder), **{name: {} for name in RECENT})


def _without(attributes: Any, removed: tuple[str, ...]) -> dict[str, Any]:
    kept = {name: value for name, value in attributes.items() if name not in removed}
    return kept | {"facts": {name: value for name, value in kept.get("facts", {}).items() if name not in removed}}
