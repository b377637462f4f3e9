"""One way to wait in tests: until a condition holds, or fail with what was waited for."""

import time
from collections.abc import Callable
from typing import TypeVar

import pytest

Value = TypeVar("Value")

PAUSE = 0.05


def wait_until(
    condition: Callable[[], Value], seconds: float, what: str | Callable[[], str], *, ignoring: tuple[type[Exception], ...] = ()
) -> Value:
    """Return the first true value of ``condition()``, asked every 0.05 s; the test fails after ``seconds``.

    ``what`` says in the failure what was waited for. A function gives that text at the time of the failure, for example the end of a log.
    ``ignoring``: errors of the condition that count as "not yet", such as a database that does not exist yet.
    """
    end = time.monotonic() + seconds
    while True:
        last = None
        try:
            if value := condition():
                return value
        except ignoring as error:
            last = error
        if time.monotonic() > end:
            text = what() if callable(what) else what
            pytest.fail(f"waited {seconds:g} s for {text}" + (f"; last error: {last!r}" if last else ""))
        time.sleep(PAUSE)
