"""Lines that are written from a thread of their own: a search never waits for its reader, and a signal handler may write."""

import threading
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any

CLOSING_SECONDS = 10.0


class Lines:
    """Hands what is put to `write`, in order; calls `quiet` whenever nothing came for `every` seconds.

    The thread starts with the first line and ends with `close`; a line that comes later starts another. Where `write` raises
    ``OSError`` (a pipe whose reader has gone, a full disk), what follows is dropped; ``ValueError`` (a character that the stream cannot
    take) drops one line.
    """

    def __init__(self, write: Callable[[Any], None], quiet: Callable[[], None] | None = None, every: float = 60.0) -> None:
        self._write, self._quiet, self._every = write, quiet, every
        self._queue: SimpleQueue[tuple[Any] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._starting = threading.RLock()

    def put(self, line: Any) -> None:
        """Write a line soon. Safe in a signal handler once a first line was put."""
        self._queue.put((line,))
        if self._thread is None:
            with self._starting:
                if self._thread is None:
                    self._thread = threading.Thread(target=self._run, name="lines", daemon=True)
                    self._thread.start()

    def close(self) -> None:
        """Wait until all lines are written, a few seconds at most."""
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join(CLOSING_SECONDS)
            self._thread = None

    def _run(self) -> None:
        broken = False
        while (item := self._next()) is not None:
            with suppress(ValueError):
                try:
                    if not broken:
                        self._say(item)
                except OSError:
                    broken = True

    def _next(self) -> tuple[Any, ...] | None:
        try:
            return self._queue.get(timeout=self._every if self._quiet else None)
        except Empty:
            return ()

    def _say(self, item: tuple[Any, ...]) -> None:
        if item:
            self._write(*item)
        elif self._quiet:
            self._quiet()
