"""When a search will be over, from how long its epochs take and how many are still to be run."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from search.events import Event

SETTLED = 5
"""Ended trials from which on those to come are expected to take as long as these took."""


@dataclass(frozen=True)
class Pace:
    """How a running trial gets on: the epochs run in `seconds`, those still to come, and those of the whole trial."""

    seconds: float
    epochs: int
    left: int
    planned: int


def seconds_left(paces: Iterable[Pace], ended: Sequence[float], *, waiting: int, slots: int, share: float = 1.0) -> float | None:
    """Return the seconds that a search still needs, or None before the first epoch is over.

    `ended` holds the seconds of trials that have ended, `waiting` is how many have not begun. Until `SETTLED` trials have ended, those
    to come are expected to take `share` of a whole trial: with rungs, about half of the planned epochs are run (126 of 224 in a search
    of 16 trials on the digits).
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
    each = fmean(ended) if len(ended) >= SETTLED else fmean([*whole, *ended]) * share
    return (running + max(0, waiting) * each) / max(1, slots)


class Estimate:
    """Seconds left of a search that is being heard, event by event."""

    def __init__(self, trials: int, slots: int, *, ended: int = 0, share: float = 1.0) -> None:
        self._trials, self._slots, self._share = trials, slots, share
        self._seconds: list[float] = []
        self._epochs: dict[int, tuple[int, int, int, float]] = {}
        self.ended = ended

    def hear(self, event: "Event") -> None:
        """Take an event into account."""
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
        """Return an estimate in seconds, or None before the first epoch is over."""
        now, held = time.monotonic(), list(self._epochs.values())
        paces = [Pace(now - started, epoch - first, planned - epoch, planned) for first, epoch, planned, started in held]
        waiting = self._trials - self.ended - len(held)
        return seconds_left(paces, self._seconds, waiting=max(0, waiting), slots=self._slots, share=self._share)
