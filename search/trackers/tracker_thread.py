"""A watcher that records a search in a tracker, from a thread of its own, so that a slow tracker does not delay the search."""

from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, Any

from search.formatting import one_line
from search.trackers.tracker import Tracker
from search.watcher import SilentWatcher

if TYPE_CHECKING:
    from search.events import Event
    from search.plan import Plan
    from search.policy.stop_condition import StopCondition

SILENT_SECONDS, CLOSING_SECONDS = 2.0, 60.0
"""At the end of a search the tracker has so many seconds to write what is left: first without, then after a message to the user."""
WriteLine = Callable[[str], None]
Call = tuple[Callable[..., None], tuple[Any, ...]]


class TrackerThread(SilentWatcher):
    """A watcher that calls a tracker on one thread, in the order of the events. Its methods only queue the calls.

    After an error of the tracker `write` gets one line, and the tracker is called no more. `name` is the tracker's. The end of the ``with``
    block waits for the queued calls, at most `SILENT_SECONDS` and then `CLOSING_SECONDS`.
    """

    def __init__(self, name: str, tracker: Tracker, write: WriteLine) -> None:
        self._name, self._tracker, self._write = name, tracker, write
        self._queue: SimpleQueue[Call | None] = SimpleQueue()
        self._thread: Thread | None = None
        self._state = "failed"

    def begin(self, name: str, plan: "Plan", slots: int, stop_condition: "StopCondition", ended: int) -> None:
        """Start the thread and queue the tracker's `start_study`, with the configuration without its storage."""
        settings = plan.config.model_dump(mode="json", exclude={"storage"})
        self._thread = Thread(target=self._run, name=f"track {self._name}", daemon=True)
        self._thread.start()
        self._put(self._tracker.start_study, name, plan.config.output / name, plan.metric, settings)

    def event(self, event: "Event") -> None:
        """Queue the tracker's call for a change of a trial: `start_trial`, `log_epoch` or `end_trial`."""
        if event.kind in ("began", "retry"):
            self._put(self._tracker.start_trial, event.number, event.config.model_dump(mode="json"), event.epoch)
        elif event.kind == "epoch":
            metrics = dict(event.metrics) if event.metrics else {} if event.value is None else {"objective": event.value}
            self._put(self._tracker.log_epoch, event.number, event.epoch, metrics)
        else:
            self._put(self._tracker.end_trial, event.number, event.kind, event.reason, event.value)

    def pausing(self, reason: str) -> None:
        """Remember ``paused`` as the state with which the tracker is closed."""
        self._state = "paused"

    def finishing(self) -> None:
        """Remember ``finished`` as the state with which the tracker is closed; without this and `pausing` it is ``failed``."""
        self._state = "finished"

    def __exit__(self, *error: object) -> None:
        thread, self._thread = self._thread, None
        if thread is None:
            return
        self._put(self._tracker.close, self._state)
        self._queue.put(None)
        thread.join(SILENT_SECONDS)
        if thread.is_alive():
            self._write(f"waiting for {self._name}, {CLOSING_SECONDS:.0f} s at most")
            thread.join(CLOSING_SECONDS)

    def _put(self, function: Callable[..., None], *arguments: Any) -> None:
        self._queue.put((function, arguments))

    def _run(self) -> None:
        failed = False
        while (call := self._queue.get()) is not None:
            function, arguments = call
            try:
                if not failed:
                    function(*arguments)
            except (Exception, SystemExit) as error:
                failed = True
                cause = one_line(f"{type(error).__name__}: {error}")[:300]
                self._write(f"--track {self._name} failed and is switched off; the search goes on ({cause})")
