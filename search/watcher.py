"""What hears how a search goes: the protocol, one that keeps still, and several as one."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from search.events import Event
    from search.plan import Plan
    from search.policy.rungs import StopCondition


class Watcher(Protocol):
    """Something that hears how a search goes. `with` brackets the time that trials run, and may be entered more than once."""

    def preparing(self, done: int, total: int, what: str) -> None:
        """Data is being read or decoded."""

    def begin(self, name: str, plan: "Plan", slots: int, stop_condition: "StopCondition", ended: int) -> None:
        """Trials are about to start; `ended` of them have ended before."""

    def event(self, event: "Event") -> None:
        """A trial began, reported an epoch, goes on after a fault, or ended."""

    def say(self, text: str) -> None:
        """Something worth a line: the record waits for its database, a command came, a fault is being mended."""

    def pausing(self, reason: str) -> None:
        """The search was interrupted; its trials end at their next epoch. May come from a signal handler."""

    def finishing(self) -> None:
        """The last trial has ended; the test split is being opened."""

    def __enter__(self) -> Any:
        """Start showing."""

    def __exit__(self, *error: object) -> None:
        """Stop showing."""


class SilentWatcher:
    """Shows nothing."""

    def preparing(self, done: int, total: int, what: str) -> None:
        """Ignore."""

    def begin(self, name: str, plan: "Plan", slots: int, stop_condition: "StopCondition", ended: int) -> None:
        """Ignore."""

    def event(self, event: "Event") -> None:
        """Ignore."""

    def say(self, text: str) -> None:
        """Ignore."""

    def pausing(self, reason: str) -> None:
        """Ignore."""

    def finishing(self) -> None:
        """Ignore."""

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *error: object) -> None:
        return


class WatcherGroup:
    """Passes everything on to each of some watchers, in their order."""

    def __init__(self, watchers: Sequence[Watcher]) -> None:
        self._watchers = tuple(watchers)

    def preparing(self, done: int, total: int, what: str) -> None:
        """Pass on."""
        for watcher in self._watchers:
            watcher.preparing(done, total, what)

    def begin(self, name: str, plan: "Plan", slots: int, stop_condition: "StopCondition", ended: int) -> None:
        """Pass on."""
        for watcher in self._watchers:
            watcher.begin(name, plan, slots, stop_condition, ended)

    def event(self, event: "Event") -> None:
        """Pass on."""
        for watcher in self._watchers:
            watcher.event(event)

    def say(self, text: str) -> None:
        """Pass on."""
        for watcher in self._watchers:
            watcher.say(text)

    def pausing(self, reason: str) -> None:
        """Pass on."""
        for watcher in self._watchers:
            watcher.pausing(reason)

    def finishing(self) -> None:
        """Pass on."""
        for watcher in self._watchers:
            watcher.finishing()

    def __enter__(self) -> "WatcherGroup":
        for watcher in self._watchers:
            watcher.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        for watcher in reversed(self._watchers):
            watcher.__exit__(*error)
