"""What a search says while it goes on: an event a trial, a gauge a budget. Light to import."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from trainables.config import TrialConfig

Kind = Literal["began", "epoch", "retry", "finished", "stopped", "failed", "paused"]
ENDED: tuple[Kind, ...] = ("finished", "stopped", "failed")


@dataclass(frozen=True)
class Event:
    """Something that a watcher may show: a trial began, reported an epoch, goes on after a fault, or ended.

    `value` is the objective so far, `metrics` the last epoch's row of the history, `seconds` the time since the trial began here.
    """

    kind: Kind
    number: int
    config: TrialConfig
    epoch: int = 0
    value: float | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    reason: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class Gauge:
    """How much of a budget is used. `unit` is trials, s, GPU-h or the metric's name."""

    name: str
    used: float
    limit: float
    unit: str

    @property
    def share(self) -> float:
        """The part that is used, from 0 to 1."""
        return min(1.0, self.used / self.limit) if self.limit else 1.0
