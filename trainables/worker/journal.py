"""The last lines of a trial's log: what the trial writes itself, and what is logged or warned while it trains."""

import logging
import warnings
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

MAX_LINES, MAX_LINE_LENGTH = 200, 400


class Journal(logging.Handler):
    """Keeps the last `MAX_LINES` lines, each with the local time."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._lines: deque[str] = deque(maxlen=MAX_LINES)

    @property
    def lines(self) -> list[str]:
        """The lines, oldest first."""
        return list(self._lines)

    def prepend(self, earlier: Sequence[str]) -> None:
        """Put the lines of an earlier worker of the same trial before the others."""
        self._lines = deque([*earlier, *self._lines], MAX_LINES)

    def add(self, text: str) -> None:
        """Add a line, with the time before it, on one line and cut at `MAX_LINE_LENGTH` characters."""
        self._lines.append(f"{datetime.now():%Y-%m-%d %H:%M:%S}  {' '.join(text.split())[:MAX_LINE_LENGTH]}")

    def emit(self, record: logging.LogRecord) -> None:
        """Add a record that a library logs."""
        self.add(f"{record.levelname.lower()}: {record.getMessage()}")

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
