"""The only writer of the record during a search: it runs every write in order, on a thread of its own.

Ray's event loop therefore never waits for a database. While the database is away, this thread tries again and the trials keep training;
their reports wait in the queue. After `patience_seconds` the writer gives up: it drops the queue and asks the search to pause. No epoch
is lost, because each one is in its trial's checkpoint.
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

from search.record.database import explain_database_error
from trainables.errors import InjertoError, ResourceError, StorageError

Result = TypeVar("Result")
Arguments = ParamSpec("Arguments")
PATIENCE_SECONDS, FULL_DISK_PATIENCE_SECONDS = 900.0, 30.0
MAX_PAUSE_SECONDS = 5.0
TRANSIENT_ERRORS = (
    sqlalchemy.exc.OperationalError,
    sqlalchemy.exc.InterfaceError,
    sqlalchemy.exc.TimeoutError,
    optuna.exceptions.StorageInternalError,
    StorageError,
    ResourceError,
    OSError,
)
"""Errors that may go away: a database or an artifact store that is away or locked, a full disk."""
FULL_DISK = re.compile("full|no space left|disk I/O error", re.IGNORECASE)
"""Matches the message for a full disk. SQLite may report one that happens in its write-ahead log as an I/O error."""


@dataclass
class PeriodicTask:
    """A function that the record writer runs every `seconds`, between two jobs; `due` is when it runs next, on the monotonic clock."""

    seconds: float
    run: Callable[[], None]
    due: float = field(default_factory=time.monotonic)


class RecordWriter:
    """Runs jobs in order on one thread. After a failure the jobs behind it are dropped, because they may depend on it.

    `on_message` gets a line when the writer starts to wait for the database and when it continues, `on_failure` the error after which
    it gave up. Both are called on the writer's thread. `waiting` is True while it waits for the database. `error` is None until jobs are
    dropped, then the cause. The thread runs during a ``with`` block.
    """

    def __init__(
        self,
        on_message: Callable[[str], None],
        on_failure: Callable[[InjertoError], None],
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        self._on_message, self._on_failure, self._patience = on_message, on_failure, patience_seconds
        self._jobs: queue.Queue[tuple[Callable[[], Any], Future[Any]] | None] = queue.Queue()
        self._tasks: list[PeriodicTask] = []
        self._thread = threading.Thread(target=self._work, name="record writer", daemon=True)
        self.waiting = False
        self.error: BaseException | None = None

    def __enter__(self) -> "RecordWriter":
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        """Wait until every job has run or was dropped. After a ``KeyboardInterrupt`` (a second Ctrl-C) do not wait."""
        self._jobs.put(None)
        if kind is None or not issubclass(kind, KeyboardInterrupt):
            self._thread.join()

    def submit(self, job: Callable[[], Result]) -> "Future[Result]":
        """Put a job into the queue and return its future, without waiting. A job that raises makes the writer drop all later jobs.

        The future of a dropped job raises the error of the job or periodic task that failed; after `drop_jobs`, ``KeyboardInterrupt``.
        """
        future: Future[Result] = Future()
        self._jobs.put((job, future))
        return future

    def flush(self) -> None:
        """Wait until all jobs so far have run or were dropped; raise nothing. Not for use inside a job."""
        self.submit(lambda: None).exception()

    def write(self, operation: Callable[Arguments, Result], *args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        """Call `operation` on the writer's thread after all jobs so far, as `with_retries` does; wait for it and return its result.

        Raises its error, or that of an earlier job that failed. Not for use inside a job.
        """
        return self.submit(partial(self.with_retries, operation, *args, **kwargs)).result()

    def write_last(self, operation: Callable[[], object]) -> None:
        """Call `operation` after all jobs so far, wait for it, and ignore its errors.

        If jobs were dropped, call it once, without retries, on the caller's thread.
        """
        with suppress(Exception):
            if self.error is None:
                self.write(operation)
            else:
                operation()

    def drop_jobs(self) -> None:
        """Drop the jobs in the queue and all later ones, and run no more periodic tasks. A job that runs now is not stopped."""
        self.error = self.error or KeyboardInterrupt()

    def run_every(self, seconds: float, function: Callable[[], None]) -> None:
        """Call `function` on the writer's thread as soon as possible and then every `seconds`, between two jobs, with retries.

        If it fails for good, the writer drops its jobs as after a failed job.
        """
        self._tasks.append(PeriodicTask(seconds, function))

    def with_retries(self, operation: Callable[Arguments, Result], *args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        """Return the result of `operation`, which is called again with growing pauses while it raises one of `TRANSIENT_ERRORS`.

        It runs on the caller's thread, so use this inside a job. Raises any other error at once. Raises the last error after
        `patience_seconds`, or after `FULL_DISK_PATIENCE_SECONDS` if a disk is full.
        """
        started, pause = time.monotonic(), 0.1
        while True:
            try:
                result = operation(*args, **kwargs)
            except TRANSIENT_ERRORS as error:
                if time.monotonic() - started > self._patience_for(error):
                    raise
                if pause > 1 and not self.waiting:
                    self.waiting = True
                    reason = explain_database_error(error)
                    self._on_message(f"the record cannot be written ({reason}); trials continue, and their reports wait")
                time.sleep(pause)
                pause = min(pause * 2, MAX_PAUSE_SECONDS)
            else:
                if self.waiting:
                    self.waiting = False
                    self._on_message(f"the record is written again, after {time.monotonic() - started:.0f} s")
                return result

    def _patience_for(self, error: BaseException) -> float:
        full = isinstance(error, ResourceError) or FULL_DISK.search(explain_database_error(error)) is not None
        return min(self._patience, FULL_DISK_PATIENCE_SECONDS if full else self._patience)

    def _work(self) -> None:
        while True:
            try:
                job = self._jobs.get(timeout=self._seconds_to_next_task())
            except queue.Empty:
                self._run_due_tasks()
                continue
            if job is None:
                return
            self._run_job(*job)
            self._run_due_tasks()

    def _run_job(self, job: Callable[[], Any], future: "Future[Any]") -> None:
        if self.error is not None:
            future.set_exception(self.error)
            return
        try:
            future.set_result(job())
        except BaseException as error:
            self._give_up(error)
            future.set_exception(error)

    def _run_due_tasks(self) -> None:
        for task in self._tasks:
            if self.error is None and time.monotonic() >= task.due:
                try:
                    self.with_retries(task.run)
                except BaseException as error:
                    self._give_up(error)
                task.due = time.monotonic() + task.seconds

    def _give_up(self, error: BaseException) -> None:
        self.error = error
        if isinstance(error, InjertoError):
            self._on_failure(error)
            return
        failure = StorageError(f"the record cannot be written: {explain_database_error(error)}")
        failure.__cause__ = error
        self._on_failure(failure)

    def _seconds_to_next_task(self) -> float:
        if self.error is not None:
            return MAX_PAUSE_SECONDS
        return max(0.0, min((task.due for task in self._tasks), default=time.monotonic() + 1) - time.monotonic())
