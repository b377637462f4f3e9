"""A log of one trial: lines that the trial writes itself, and what libraries log or warn while it trains."""

import logging
import warnings
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

MAX_LINES, MAX_LINE_LENGTH = 200, 400


class Journal(logging.Handler):
    """Keeps the last `MAX_LINES` lines of a trial's log in memory, each with the local time.

    As a logging handler it accepts records of level warning and above.
    """

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._lines: deque[str] = deque(maxlen=MAX_LINES)

    @property
    def lines(self) -> list[str]:
        """The lines, oldest first, each as ``2025-01-31 12:00:00  text``."""
        return list(self._lines)

    def prepend(self, earlier: Sequence[str]) -> None:
        """Put the lines of an earlier worker of the same trial, oldest first, before the others.

        If there are too many lines then, the oldest are dropped.
        """
        self._lines = deque([*earlier, *self._lines], MAX_LINES)

    def add(self, text: str) -> None:
        """Add a text as one line, with the local time before it. White space is joined; the text is cut at `MAX_LINE_LENGTH` characters."""
        self._lines.append(f"{datetime.now():%Y-%m-%d %H:%M:%S}  {' '.join(text.split())[:MAX_LINE_LENGTH]}")

    def emit(self, record: logging.LogRecord) -> None:
        """Add a record that a library logs, with its level. If its arguments do not fit its text, add what is known of it."""
        level = record.levelname.lower()
        try:
            self.add(f"{level}: {record.getMessage()}")
        except Exception as error:  # the text and the arguments are any objects, with any bugs; a log line must not end an epoch
            text = record.msg if isinstance(record.msg, str) else type(record.msg).__name__
            self.add(f"{level}: {text} ({record.name}: {type(error).__name__} in the arguments of this line)")

    @contextmanager
    def capture_warnings(self) -> Iterator[None]:
        """While the block runs, add every Python warning and every log record of level warning or above."""

        def record_warning(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
            self.add(f"warning: {category.__name__}: {message}")
            show_before(message, category, *place, **more)

        show_before, root = warnings.showwarning, logging.getLogger()
        warnings.showwarning = record_warning
        root.addHandler(self)
        try:
            yield
        finally:
            root.removeHandler(self)
            warnings.showwarning = show_before
