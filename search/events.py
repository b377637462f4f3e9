"""What a search reports while it runs: one event for each change of a trial, one gauge for each budget. Light to import."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from trainables.config import TrialConfig

EventKind = Literal["began", "epoch", "retry", "finished", "stopped", "failed", "paused"]
ENDED: tuple[EventKind, ...] = ("finished", "stopped", "failed")
"""The kinds after which a trial has ended for good."""


@dataclass(frozen=True)
class Event:
    """A change of a trial: it began, reported an epoch, goes on after a fault, was paused, or ended.

    `value` is the latest objective, `metrics` the last epoch's row of the history, `seconds` the time since the trial began in this run.
    """

    kind: EventKind
    number: int
    config: TrialConfig
    epoch: int = 0
    value: float | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    reason: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class Gauge:
    """How much of a budget is used. `unit` is ``trials``, ``s`` or ``GPU-h``."""

    name: str
    used: float
    limit: float
    unit: str

    @property
    def share(self) -> float:
        """The used share, from 0 to 1."""
        return min(1.0, self.used / self.limit) if self.limit else 1.0
