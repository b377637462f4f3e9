"""A writer of lines with a thread of its own, so that a search never waits for who reads them, and a signal handler may write."""

import threading
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any

CLOSING_SECONDS = 10.0


class LineWriter:
    """Passes lines to `write` in order, on its own thread; calls `on_silence` there whenever no line came for `silence_seconds`.

    The thread starts with the first line and ends with `close`; a later line starts another thread. After an ``OSError`` of `write`
    (a pipe without a reader, a full disk) all further lines are dropped. After a ``ValueError`` (a character that the stream cannot
    encode) only that line is dropped.
    """

    def __init__(self, write: Callable[[Any], None], on_silence: Callable[[], None] | None = None, silence_seconds: float = 60.0) -> None:
        self._write, self._on_silence, self._silence_seconds = write, on_silence, silence_seconds
        self._queue: SimpleQueue[tuple[Any] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._starting = threading.RLock()

    def put(self, line: Any) -> None:
        """Queue a line, which `write` gets as it is, and return at once. After the first line, this is safe in a signal handler."""
        self._queue.put((line,))
        if self._thread is None:
            with self._starting:
                if self._thread is None:
                    self._thread = threading.Thread(target=self._run, name="lines", daemon=True)
                    self._thread.start()

    def close(self) -> None:
        """Wait until all lines are written, at most `CLOSING_SECONDS`, and end the thread."""
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
                        self._handle(item)
                except OSError:
                    broken = True

    def _next(self) -> tuple[Any, ...] | None:
        """Return a tuple with the next line, an empty one after a silence, or None at the end."""
        try:
            return self._queue.get(timeout=self._silence_seconds if self._on_silence else None)
        except Empty:
            return ()

    def _handle(self, item: tuple[Any, ...]) -> None:
        if item:
            self._write(*item)
        elif self._on_silence:
            self._on_silence()
