"""What a search reports while it runs: an `Event` for each change of a trial, a `Gauge` for each budget. Light to import."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from trainables.config import TrialConfig

EventKind = Literal["began", "epoch", "retry", "finished", "stopped", "failed", "paused"]
ENDED: tuple[EventKind, ...] = ("finished", "stopped", "failed")
"""The kinds after which a trial has ended for good."""


@dataclass(frozen=True)
class Event:
    """A change of a trial: it began, reported an epoch, continues after a fault (``retry``), was paused, or ended.

    `number` is the trial's number and `epoch` the epochs that it has reported. `value` is the objective after the latest epoch, None before
    the first; `metrics` is that epoch's row of the history. `reason` tells a user why the trial was paused, retried or ended. `seconds` is
    the time since the trial began in this run.
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
    """How much of a budget is used: `used` of `limit`, both in `unit`, which is ``trials``, ``s`` or ``GPU-h``.

    `name` is the budget's name for a user, such as ``GPU-hours``.
    """

    name: str
    used: float
    limit: float
    unit: str

    @property
    def share(self) -> float:
        """The used share of the limit, at most 1; 1 if the limit is 0."""
        return min(1.0, self.used / self.limit) if self.limit else 1.0
