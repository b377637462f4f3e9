"""The protocol of an experiment tracker, and what its implementations share."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol


class Tracker(Protocol):
    """An experiment tracker that also records the trials of a study. A trial may start again, after a pause or a fault."""

    def start_study(self, name: str, folder: Path, metric: str, config: Mapping[str, Any]) -> None:
        """Record that a search starts or resumes."""

    def start_trial(self, number: int, config: Mapping[str, Any], epoch: int) -> None:
        """Record that a trial starts, or starts again after the given epoch."""

    def log_epoch(self, number: int, epoch: int, metrics: Mapping[str, float]) -> None:
        """Record the metrics of a trial's epoch."""

    def end_trial(self, number: int, state: str, reason: str, value: float | None) -> None:
        """Record that a trial is finished, stopped, failed or paused."""

    def close(self, state: str) -> None:
        """Record that the search is finished, paused or failed, and release the tracker."""


def flat(config: Mapping[str, Any]) -> dict[str, bool | int | float | str]:
    """Return a configuration as the plain values that every tracker accepts; a nested key becomes ``budget.trials``."""
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
