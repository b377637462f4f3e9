"""Estimates how long a search still takes, from the seconds that its epochs take and the number of epochs that are left."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from search.events import Event

SHARE_WITH_RUNGS = 0.5
"""Share of the planned epochs that a search runs if rungs stop weak trials: 126 of 224 in a search of 16 trials on the digits."""
ENOUGH_ENDED = 5
"""Ended trials after which their mean duration is the estimate for each trial that has not started."""


@dataclass(frozen=True)
class Pace:
    """The progress of a running trial: `epochs` epochs took `seconds`, `left` epochs remain, `planned` is the number of all its epochs."""

    seconds: float
    epochs: int
    left: int
    planned: int


def seconds_left(paces: Iterable[Pace], ended: Sequence[float], *, waiting: int, slots: int, share: float = 1.0) -> float | None:
    """Return the seconds that a search still takes, or None before its first epoch has ended.

    `ended` holds the seconds of each trial that finished or was stopped, `waiting` is the number of trials that have not started, `slots`
    the number that run at a time. Until `ENOUGH_ENDED` trials have ended, each waiting trial counts as `share` of a whole trial
    (`SHARE_WITH_RUNGS` if rungs stop trials).
    """
    running, whole = 0.0, []
    for pace in paces:
        if pace.epochs > 0:
            running += pace.seconds / pace.epochs * pace.left
            whole.append(pace.seconds / pace.epochs * pace.planned)
        else:
            waiting += 1
    if not (whole or ended):
        return None
    each = fmean(ended) if len(ended) >= ENOUGH_ENDED else fmean([*whole, *ended]) * share
    return (running + max(0, waiting) * each) / max(1, slots)


class Estimate:
    """Estimates the seconds left of a running search from its events.

    `trials` is the budget, `slots` the number of trials at a time, `ended` the trials that ended in earlier runs; `share` as in
    `seconds_left`. The attribute `ended` counts all trials that have ended.
    """

    def __init__(self, trials: int, slots: int, *, ended: int = 0, share: float = 1.0) -> None:
        self._trials, self._slots, self._share = trials, slots, share
        self._seconds: list[float] = []
        self._epochs: dict[int, tuple[int, int, int, float]] = {}  # number → first and last epoch, planned epochs, start
        self.ended = ended

    def update(self, event: "Event") -> None:
        """Take an event into account; call it for every event, in order."""
        now = time.monotonic()
        if event.kind in ("began", "retry") or (event.kind == "epoch" and event.number not in self._epochs):
            self._epochs[event.number] = (event.epoch, event.epoch, event.config.epochs, now)
        elif event.kind == "epoch":
            first, _, planned, started = self._epochs[event.number]
            self._epochs[event.number] = (first, event.epoch, planned, started)
        else:
            self._epochs.pop(event.number, None)
            self.ended += event.kind != "paused"
            if event.kind in ("finished", "stopped"):
                self._seconds.append(event.seconds)

    def seconds_left(self) -> float | None:
        """Return the seconds that the search still takes, as the function `seconds_left` does."""
        now, running = time.monotonic(), list(self._epochs.values())
        paces = [Pace(now - started, epoch - first, planned - epoch, planned) for first, epoch, planned, started in running]
        waiting = self._trials - self.ended - len(running)
        return seconds_left(paces, self._seconds, waiting=max(0, waiting), slots=self._slots, share=self._share)
