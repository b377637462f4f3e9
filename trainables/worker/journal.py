"""The last lines of what a trial says, and of what is logged or warned while it trains."""

import logging
import warnings
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

MOST_LINES, LONGEST_LINE = 200, 400


class Journal(logging.Handler):
    """Keeps at most `MOST_LINES` lines, each with the local time."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._lines: deque[str] = deque(maxlen=MOST_LINES)

    @property
    def lines(self) -> list[str]:
        """What has been said, oldest first."""
        return list(self._lines)

    def recall(self, earlier: Sequence[str]) -> None:
        """Put lines before the others: those of the worker that had the trial before."""
        self._lines = deque([*earlier, *self._lines], MOST_LINES)

    def say(self, text: str) -> None:
        """Add a line."""
        self._lines.append(f"{datetime.now():%Y-%m-%d %H:%M:%S}  {' '.join(text.split())[:LONGEST_LINE]}")

    def emit(self, record: logging.LogRecord) -> None:
        """Add what some library logs."""
        self.say(f"{record.levelname.lower()}: {record.getMessage()}")

    @contextmanager
    def listening(self) -> Iterator[None]:
        """While the block runs, hear warnings and whatever is logged as one or worse."""

        def heard(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
            self.say(f"warning: {category.__name__}: {message}")
            shown(message, category, *place, **more)

        shown, root = warnings.showwarning, logging.getLogger()
        warnings.showwarning = heard
        root.addHandler(self)
        try:
            yield
        finally:
            root.removeHandler(self)
            warnings.showwarning = shown
