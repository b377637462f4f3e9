"""The protocol of what shows or records a running search (a watcher), a watcher that does nothing, and a group of watchers."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from search.events import Event
    from search.plan import Plan
    from search.policy.stop_condition import StopCondition


class Watcher(Protocol):
    """Shows or records a search: the search calls these methods as it goes on.

    The search enters a watcher with `with` while trials run, possibly more than once.
    """

    def preparing(self, done: int, total: int, what: str) -> None:
        """Called while data is read or decoded: `done` of `total` items, and what is done to them, such as ``decoding``."""

    def begin(self, name: str, plan: "Plan", slots: int, stop_condition: "StopCondition", ended: int) -> None:
        """Called before trials start.

        `name` is the study's name, `slots` the number of trials that run at a time, `ended` the number of trials that ended in earlier
        runs. `stop_condition` changes during the search; its gauges show how much of each budget is used.
        """

    def event(self, event: "Event") -> None:
        """Called for each change of a trial, in Ray's event loop, which waits for it."""

    def say(self, text: str) -> None:
        """Called, on any thread, with a message for the user, such as a command that arrived or a database that does not answer."""

    def pausing(self, reason: str) -> None:
        """Called when the search is interrupted; its trials pause at their next epoch. The caller may be a signal handler."""

    def finishing(self) -> None:
        """Called after the last trial has ended, before the test split is evaluated."""

    def __enter__(self) -> Any:
        """Called before trials run: start showing the search."""

    def __exit__(self, *error: object) -> None:
        """Called when trials no longer run, or after an error: stop showing the search."""


class SilentWatcher:
    """A watcher that does nothing; watchers that need only some of the methods derive from it."""

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
