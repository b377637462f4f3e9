"""The one writer: everything that touches the storage during a search, in order, on a thread of its own.

The driver's loop never waits for a database. While one is away the thread tries again, trials go on training, and what they report
waits in line; after `patience` seconds the search is asked to pause, and the line is dropped: every epoch is in its trial's state.
"""

import queue
import re
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ParamSpec, TypeVar

import optuna
import sqlalchemy

from search.record.database import explained
from trainables.errors import InjertoError, ResourceError, StorageError

Result = TypeVar("Result")
Arguments = ParamSpec("Arguments")
PATIENCE_SECONDS, PATIENCE_WITH_A_FULL_DISK = 900.0, 30.0
LONGEST_PAUSE = 5.0
TRANSIENT = (
    sqlalchemy.exc.OperationalError,
    sqlalchemy.exc.InterfaceError,
    sqlalchemy.exc.TimeoutError,
    optuna.exceptions.StorageInternalError,
    StorageError,
    ResourceError,
    OSError,
)
"""What another try may mend: a database that is away or locked, an artifact store that is, a disk that is full."""
FULL = re.compile("full|no space left|disk I/O error", re.IGNORECASE)
"""What a database or a file system says that has no room; SQLite's write-ahead log may call that an I/O error."""


@dataclass
class Chore:
    """Something to be done again and again, between the jobs."""

    seconds: float
    do: Callable[[], None]
    due: float = field(default_factory=time.monotonic)


class RecordWriter:
    """Does jobs one after another. `say` hears when it waits and when it goes on, `broken` why it gave up."""

    def __init__(
        self, say: Callable[[str], None], broken: Callable[[InjertoError], None], patience_seconds: float = PATIENCE_SECONDS
    ) -> None:
        self._say, self._broken, self._patience = say, broken, patience_seconds
        self._jobs: queue.Queue[tuple[Callable[[], Any], Future[Any]] | None] = queue.Queue()
        self._chores: list[Chore] = []
        self._thread = threading.Thread(target=self._work, name="ledger", daemon=True)
        self.waiting = False
        self.error: BaseException | None = None

    def __enter__(self) -> "RecordWriter":
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        """Wait until everything is written or the patience is over; not at all where the process is to end at once."""
        self._jobs.put(None)
        if kind is None or not issubclass(kind, KeyboardInterrupt):
            self._thread.join()

    def put(self, job: Callable[[], Result]) -> "Future[Result]":
        """Put a job in line and return its future. Jobs after one that failed are dropped: what they tell stands upon it."""
        future: Future[Result] = Future()
        self._jobs.put((job, future))
        return future

    def wait(self) -> None:
        """Wait until everything so far is written, or dropped."""
        self.put(lambda: None).exception()

    def do(self, write: Callable[Arguments, Result], *args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        """Do one write, patiently, once everything before it is written, and return its result or raise its error."""
        return self.put(partial(self.patiently, write, *args, **kwargs)).result()

    def last(self, write: Callable[[], object]) -> None:
        """Do a write that stands by itself: patiently, or just once where the line was dropped."""
        with suppress(Exception):
            if self.error is None:
                self.do(write)
            else:
                write()

    def abandon(self) -> None:
        """Drop the line."""
        self.error = self.error or KeyboardInterrupt()

    def every(self, seconds: float, chore: Callable[[], None]) -> None:
        """Do something at once and then every so many seconds, between jobs."""
        self._chores.append(Chore(seconds, chore))

    def patiently(self, write: Callable[Arguments, Result], *args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        """Do one write, again with growing pauses while it meets what another try may mend. For use inside a job."""
        started, pause = time.monotonic(), 0.1
        while True:
            try:
                done = write(*args, **kwargs)
            except TRANSIENT as error:
                full = isinstance(error, ResourceError) or FULL.search(explained(error)) is not None
                if time.monotonic() - started > min(self._patience, PATIENCE_WITH_A_FULL_DISK if full else self._patience):
                    raise
                if pause > 1 and not self.waiting:
                    self.waiting = True
                    self._say(f"the record cannot be written ({explained(error)}); trials go on, and what they report waits")
                time.sleep(pause)
                pause = min(pause * 2, LONGEST_PAUSE)
            else:
                if self.waiting:
                    self.waiting = False
                    self._say(f"the record is written again, after {time.monotonic() - started:.0f} s")
                return done

    def _work(self) -> None:
        while True:
            try:
                job = self._jobs.get(timeout=self._until_next_chore())
            except queue.Empty:
                self._do_chores()
                continue
            if job is None:
                return
            self._do(*job)
            self._do_chores()

    def _do(self, job: Callable[[], Any], future: "Future[Any]") -> None:
        if self.error is not None:
            future.set_exception(self.error)
            return
        try:
            future.set_result(job())
        except BaseException as error:
            self._fail(error)
            future.set_exception(error)

    def _do_chores(self) -> None:
        for chore in self._chores:
            if self.error is None and time.monotonic() >= chore.due:
                try:
                    self.patiently(chore.do)
                except BaseException as error:
                    self._fail(error)
                chore.due = time.monotonic() + chore.seconds

    def _fail(self, error: BaseException) -> None:
        self.error = error
        known = error if isinstance(error, InjertoError) else StorageError(f"the record cannot be written: {explained(error)}")
        known.__cause__ = error if known is not error else None
        self._broken(known)

    def _until_next_chore(self) -> float:
        if self.error is not None:
            return LONGEST_PAUSE
        return max(0.0, min((chore.due for chore in self._chores), default=time.monotonic() + 1) - time.monotonic())
