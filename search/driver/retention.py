"""Which trials' states stay: the best few, the default recipe's, and no more than there is room for; decided at each end, in O(log n)."""

import heapq
import math
from typing import NamedTuple

DEFAULT_RECIPE = 0
"""Number of the trial that is compared with the winner at the end."""


class _Key(NamedTuple):
    """What trials are ranked by; the smallest is the worst."""

    finished: bool
    goodness: float
    earliness: int


class _State(NamedTuple):
    """One trial's state; the smallest is the worst."""

    key: _Key
    location: str | None
    bytes: int


class Retention:
    """Keeps the states of the `best` trials, finished ones before stopped ones, and of the default recipe; lets the others go.

    Where `disk` bytes do not hold those and the running trials' states, the worst go as well: the default recipe's last, the best one's
    never. A state that is worse than one that has gone goes too, so that the order in which trials end changes nothing. A failed
    trial's state goes. What is returned is for the caller to remove.
    """

    def __init__(self, mode: str, best: int = 3, disk: float | None = None) -> None:
        self._sign, self._best, self._disk = (1 if mode == "max" else -1), best, math.inf if disk is None else disk
        self._kept: list[_State] = []  # a heap, the worst first; the best is never taken from it
        self._default: _State | None = None  # the default recipe's, once it is not among the best
        self._lost = _Key(False, -math.inf, 0)  # the best trial whose state has gone
        self._running: dict[int, int] = {}
        self._kept_bytes = self._running_bytes = 0

    def size(self, number: int, bytes: int) -> list[str]:
        """Note the size of a running trial's state; return the locations of the states that must go for it."""
        self._running_bytes += bytes - self._running.get(number, 0)
        self._running[number] = bytes
        return self._make_room()

    def ended(self, number: int, finished: bool, value: float | None, location: str | None, bytes: int) -> list[str]:
        """Note that a trial ended, `value` None where it failed; return the locations of the states that go.

        Past trials can be replayed in any order.
        """
        self._running_bytes -= self._running.pop(number, 0)
        if value is None or not math.isfinite(value):
            return [location] if location else []
        state = _State(_Key(finished, self._sign * value, -number), location, bytes if location else 0)
        if state.key < self._lost:
            gone = self._set_aside(state)
        else:
            heapq.heappush(self._kept, state)
            self._kept_bytes += state.bytes
            gone = self._drop_worst() if len(self._kept) > self._best else []
        return gone + self._make_room()

    def short(self) -> str | None:
        """Say that even the best state and the running trials' do not fit, None where they do."""
        if self._kept_bytes + self._running_bytes <= self._disk:
            return None
        return (
            f"the states of {len(self._running)} running trials take {_megabytes(self._running_bytes)} and the best one's "
            f"{_megabytes(self._kept_bytes)}, more than keep.disk allows ({_megabytes(self._disk)}); "
            "raise keep.disk, or lower resources.max_concurrent_trials"
        )

    def _make_room(self) -> list[str]:
        gone: list[str] = []
        while self._kept_bytes + self._running_bytes > self._disk:
            if len(self._kept) > 1:
                gone += self._drop_worst()
            elif self._default is not None:
                self._kept_bytes -= self._default.bytes
                gone += [self._default.location] if self._default.location else []
                self._default = None
            else:
                break
        return gone

    def _drop_worst(self) -> list[str]:
        worst = heapq.heappop(self._kept)
        self._kept_bytes -= worst.bytes
        self._lost = max(self._lost, worst.key)
        return self._set_aside(worst)

    def _set_aside(self, state: _State) -> list[str]:
        """Let a state go, or keep it for the default recipe's sake."""
        if -state.key.earliness != DEFAULT_RECIPE:
            return [state.location] if state.location else []
        self._default = state
        self._kept_bytes += state.bytes
        return []


def _megabytes(bytes: float) -> str:
    return f"{bytes / 1e6:.1f} MB"
