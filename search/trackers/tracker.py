"""The protocol of an experiment tracker, and what its implementations share."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol


class Tracker(Protocol):
    """An experiment tracker (such as MLflow) that also records the trials of a study. All calls come from one thread, in order.

    A trial may start again, after a pause or a fault. Any method may raise: the tracker is then switched off.
    """

    def start_study(self, name: str, folder: Path, metric: str, config: Mapping[str, Any]) -> None:
        """Record that a search starts or resumes. `folder` is its output folder, `metric` its objective, `config` its settings as JSON."""

    def start_trial(self, number: int, config: Mapping[str, Any], epoch: int) -> None:
        """Record that a trial starts (`epoch` 0) or starts again after `epoch` epochs; `config` is its configuration as JSON."""

    def log_epoch(self, number: int, epoch: int, metrics: Mapping[str, float]) -> None:
        """Record the metrics of a trial's 1-based epoch: name → value, with the losses and the objective among them."""

    def end_trial(self, number: int, state: str, reason: str, value: float | None) -> None:
        """Record that a trial is ``finished``, ``stopped``, ``failed`` or ``paused``, why, and its last objective (None if it has none)."""

    def close(self, state: str) -> None:
        """Record that the search is ``finished``, ``paused`` or ``failed``, and close all runs and files."""


def flat(config: Mapping[str, Any]) -> dict[str, bool | int | float | str]:
    """Return a configuration as the flat mapping that every tracker accepts.

    A nested key becomes ``budget.trials``, a list its elements joined by commas, and any other value that is not plain its text.
    """
    values: dict[str, bool | int | float | str] = {}
    for name, value in config.items():
        if isinstance(value, Mapping):
            values |= {f"{name}.{inner}": plain for inner, plain in flat(value).items()}
        elif isinstance(value, list | tuple):
            values[name] = ", ".join(map(str, value))
        else:
            values[name] = value if isinstance(value, bool | int | float | str) else str(value)
    return values


def study_hash(folder: Path) -> str:
    """Return 16 hexadecimal digits that identify a study by its folder: unique, and the same after a resume."""
    return hashlib.sha256(str(folder).encode()).hexdigest()[:16]
