"""Which trials' checkpoints are kept: those of the best few and of the default recipe, within a limit on disk space."""

import heapq
import math
from typing import NamedTuple

from trainables.objectives import sign

DEFAULT_RECIPE = 0
"""Number of the trial that the winner is compared with at the end."""


class _Rank(NamedTuple):
    """What trials are ranked by; the smallest is the worst. `goodness` is the objective, negated if it is minimized.

    `earliness` is the negated trial number. A trial that was stopped has `finished` False and ranks below all finished ones.
    """

    finished: bool
    goodness: float
    earliness: int


class _Checkpoint(NamedTuple):
    """One trial's checkpoint and its size, ordered by the trials' results, the worst first. `location` is None if there is none."""

    rank: _Rank
    location: str | None
    bytes: int


class Retention:
    """Keeps the checkpoints of the `best` trials, finished before stopped ones, and of the default recipe; drops the others.

    If these and the checkpoints of running trials need more than `disk` bytes, the worst are dropped as well: the default recipe's last,
    the best one's never. A checkpoint that ranks below a dropped one is dropped too, so that the result does not depend on the order in
    which trials end. A failed trial's checkpoint is dropped. The methods return the locations of what is dropped; the caller deletes it.
    """

    def __init__(self, mode: str, best: int = 3, disk: float | None = None) -> None:
        self._sign, self._best, self._disk = sign(mode), best, math.inf if disk is None else disk
        self._kept: list[_Checkpoint] = []  # a heap with the worst first; the best is never taken from it
        self._default: _Checkpoint | None = None  # the default recipe's, once it is not among the best
        self._best_dropped = _Rank(False, -math.inf, 0)
        self._running: dict[int, int] = {}
        self._kept_bytes = self._running_bytes = 0

    def size(self, number: int, bytes: int) -> list[str]:
        """Note the size of a running trial's checkpoint; return the locations of ended trials' checkpoints that are dropped for it."""
        self._running_bytes += bytes - self._running.get(number, 0)
        self._running[number] = bytes
        return self._make_room()

    def ended(self, number: int, finished: bool, value: float | None, location: str | None, bytes: int) -> list[str]:
        """Note that a trial ended; return the locations of the checkpoints that are dropped. Trials may be noted in any order.

        `finished` is False for a trial that was stopped or failed, `value` is None for one that failed. `location` and `bytes` are those of
        its checkpoint; `location` is None if it has none.
        """
        self._running_bytes -= self._running.pop(number, 0)
        if value is None or not math.isfinite(value):
            return [location] if location else []
        checkpoint = _Checkpoint(_Rank(finished, self._sign * value, -number), location, bytes if location else 0)
        if checkpoint.rank < self._best_dropped:
            dropped = self._drop(checkpoint)
        else:
            heapq.heappush(self._kept, checkpoint)
            self._kept_bytes += checkpoint.bytes
            dropped = self._drop_worst() if len(self._kept) > self._best else []
        return dropped + self._make_room()

    def shortage(self) -> str | None:
        """Return a message for the user if the kept checkpoints and those of the running trials need more than `disk` bytes, else None.

        After `size` and `ended` have made room, this means that the best checkpoint and those of the running trials alone do not fit.
        """
        if self._kept_bytes + self._running_bytes <= self._disk:
            return None
        return (
            f"the checkpoints of {len(self._running)} running trials take {_megabytes(self._running_bytes)} and the best one's "
            f"{_megabytes(self._kept_bytes)}, more than keep.disk allows ({_megabytes(self._disk)}); "
            "raise keep.disk, or lower resources.max_concurrent_trials"
        )

    def _make_room(self) -> list[str]:
        dropped: list[str] = []
        while self._kept_bytes + self._running_bytes > self._disk:
            if len(self._kept) > 1:
                dropped += self._drop_worst()
            elif self._default is not None:
                self._kept_bytes -= self._default.bytes
                dropped += [self._default.location] if self._default.location else []
                self._default = None
            else:
                break
        return dropped

    def _drop_worst(self) -> list[str]:
        worst = heapq.heappop(self._kept)
        self._kept_bytes -= worst.bytes
        self._best_dropped = max(self._best_dropped, worst.rank)
        return self._drop(worst)

    def _drop(self, checkpoint: _Checkpoint) -> list[str]:
        """Return a checkpoint's location as dropped; if it is the default recipe's, keep it outside of the ranking and return nothing."""
        if -checkpoint.rank.earliness != DEFAULT_RECIPE:
            return [checkpoint.location] if checkpoint.location else []
        self._default = checkpoint
        self._kept_bytes += checkpoint.bytes
        return []


def _megabytes(bytes: float) -> str:
    return f"{bytes / 1e6:.1f} MB"
