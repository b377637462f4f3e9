"""Watchers by which a test acts on a search while it runs."""

from collections.abc import Callable

from search.events import Event
from search.watcher import SilentWatcher


class ActOnce(SilentWatcher):
    """Keeps events and messages; calls a function once, at the first event of a kind."""

    def __init__(self, kind: str, act: Callable[[], object] | None = None) -> None:
        self._kind, self._act = kind, act
        self.events: list[Event] = []
        self.said: list[str] = []

    def event(self, event: Event) -> None:
        self.events.append(event)
        if event.kind == self._kind and self._act:
            act, self._act = self._act, None
            act()

    def say(self, text: str) -> None:
        self.said.append(text)


class InterruptAfter(SilentWatcher):
    """Interrupts a search after so many epochs of all trials together, as Ctrl-C does."""

    def __init__(self, epochs: int) -> None:
        self._left = epochs
        self.stop_condition = None

    def begin(self, name, plan, slots, stop_condition, ended) -> None:
        self.stop_condition = stop_condition

    def event(self, event: Event) -> None:
        self._left -= event.kind == "epoch"
        if self._left == 0:
            self.interrupt()
            self._left = -1

    def interrupt(self) -> None:
        self.stop_condition.interrupt("interrupted by hand")
