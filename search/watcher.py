"""What shows or records a running search: the watcher protocol, a watcher that does nothing, and a group of watchers."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from search.events import Event
    from search.plan import Plan
    from search.policy.stop_condition import StopCondition


class Watcher(Protocol):
    """Is called as a search goes on. The search enters it with `with` while trials run, possibly more than once."""

    def preparing(self, done: int, total: int, what: str) -> None:
        """Called while data is read or decoded: `done` of `total` items, and what is done to them."""

    def begin(self, name: str, plan: "Plan", slots: int, stop_condition: "StopCondition", ended: int) -> None:
        """Called before trials start; `slots` run at a time, and `ended` trials ended in earlier runs."""

    def event(self, event: "Event") -> None:
        """Called for each event of a trial."""

    def say(self, text: str) -> None:
        """Called with a message for the user: the record waits for its database, a command arrived, a fault was handled."""

    def pausing(self, reason: str) -> None:
        """Called when the search is interrupted; its trials pause at their next epoch. The caller may be a signal handler."""

    def finishing(self) -> None:
        """Called after the last trial has ended, before the test split is evaluated."""

    def __enter__(self) -> Any:
        """Start showing the search."""

    def __exit__(self, *error: object) -> None:
        """Stop showing the search."""


class SilentWatcher:
    """A watcher that does nothing; others derive from it."""

    def preparing(self, done: int, total: int, what: str) -> None:
        """Do nothing."""

    def begin(self, name: str, plan: "Plan", slots: int, stop_condition: "StopCondition", ended: int) -> None:
        """Do nothing."""

    def event(self, event: "Event") -> None:
        """Do nothing."""

    def say(self, text: str) -> None:
        """Do nothing."""

    def pausing(self, reason: str) -> None:
        """Do nothing."""

    def finishing(self) -> None:
        """Do nothing."""

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *error: object) -> None:
        return


class WatcherGroup:
    """Several watchers as one: each call goes to all of them, in their order."""

    def __init__(self, watchers: Sequence[Watcher]) -> None:
        self._watchers = tuple(watchers)

    def preparing(self, done: int, total: int, what: str) -> None:
        """Call every watcher."""
        for watcher in self._watchers:
            watcher.preparing(done, total, what)

    def begin(self, name: str, plan: "Plan", slots: int, stop_condition: "StopCondition", ended: int) -> None:
        """Call every watcher."""
        for watcher in self._watchers:
            watcher.begin(name, plan, slots, stop_condition, ended)

    def event(self, event: "Event") -> None:
        """Call every watcher."""
        for watcher in self._watchers:
            watcher.event(event)

    def say(self, text: str) -> None:
        """Call every watcher."""
        for watcher in self._watchers:
            watcher.say(text)

    def pausing(self, reason: str) -> None:
        """Call every watcher."""
        for watcher in self._watchers:
            watcher.pausing(reason)

    def finishing(self) -> None:
        """Call every watcher."""
        for watcher in self._watchers:
            watcher.finishing()

    def __enter__(self) -> "WatcherGroup":
        for watcher in self._watchers:
            watcher.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        for watcher in reversed(self._watchers):
            watcher.__exit__(*error)
