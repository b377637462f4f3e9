"""Converts lengths of time as a user writes them to seconds: ``90``, ``90s``, ``30m``, ``1.5h``, ``2d``."""

import math
import re
from typing import Any

from trainables.errors import ConfigError

UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}


def parse_seconds(value: Any) -> Any:
    """Return a length of time such as ``"30m"`` in seconds. A value that is not a string is returned unchanged.

    Raises ``ValueError`` for a string that is no length of time. A string without a unit is in seconds.
    """
    if not isinstance(value, str):
        return value
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*", value)
    if not match or match[2] not in UNITS:
        raise ValueError(f"must be a number of seconds, or a number and s, m, h or d such as 30m, but got {value!r}")
    return float(match[1]) * UNITS[match[2]]


def parse_duration(option: str, value: str | None) -> float:
    """Return the value of a command-line option in seconds, 0 if it is None.

    Raises ``ConfigError`` unless a given value is a length of time that is finite and more than 0; `option` is its name in the message.
    """
    try:
        seconds = float(parse_seconds(value) if value is not None else 0.0)
    except ValueError as error:
        raise ConfigError(f"{option} {error}") from None
    if value is not None and not 0 < seconds < math.inf:
        raise ConfigError(f"{option} must be more than 0 but got {value!r}")
    return seconds
