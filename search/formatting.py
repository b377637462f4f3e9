"""Short texts for values: a configuration, a curve, an amount, a duration; and text from outside, made safe for a terminal."""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

LEVELS = "▁▂▃▄▅▆▇█"
GAP = "·"
CLOCK = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def brief_configuration(config: Mapping[str, Any]) -> str:
    """Return the main fields of a trial's configuration (a `TrialConfig` as a dictionary) as one line of text."""
    plain = "perceptron" if not config["head_layers"] else f"head {config['head_layers']}×{config['head_units']}"
    head = f"head {' → '.join(config['head'])}" if config.get("head") else plain
    return (
        f"{config['backbone']}, {config['optimizer']} {config['learning_rate']:.2g}, unfrozen {config['unfrozen_stages']}, {head}, "
        f"batch {config['batch_size']}, augment {config['augmentation_strength']:g}"
    )


def sparkline(values: Sequence[float], width: int = 16) -> str:
    """Return a curve as at most `width` blocks, the lowest value ▁ and the highest █.

    A longer curve is cut into `width` stretches, of which the last value is drawn. A value that is not finite becomes ``·``. A constant
    curve is drawn at half height.
    """
    if len(values) > width:
        values = [values[(place + 1) * len(values) // width - 1] for place in range(width)]
    finite = [value for value in values if math.isfinite(value)]
    low, high = min(finite, default=0.0), max(finite, default=0.0)
    return "".join(LEVELS[_level(value, low, high)] if math.isfinite(value) else GAP for value in values)


def _level(value: float, low: float, high: float) -> int:
    top = len(LEVELS) - 1
    if low == high:
        return top // 2
    if math.isinf(high - low):
        return _level(value / 2, low / 2, high / 2)
    return round(top * ((value - low) / (high - low)))


def duration(seconds: float) -> str:
    """Return seconds as text in the two largest units, such as ``45 s``, ``3 min 5 s`` or ``1 h 20 min``; the last unit is rounded."""
    left = max(0, round(seconds))
    for (size, unit), (smaller, next_unit) in pairwise(CLOCK):
        rounded = round(left / smaller) * smaller
        if rounded >= size:
            rest = rounded % size // smaller
            return f"{rounded // size} {unit}" + (f" {rest} {next_unit}" if rest else "")
    return f"{left} s"


def number(value: float) -> str:
    """Return a number as text with three significant digits; from 1,000 it is rounded and has commas; a whole number stays whole."""
    return f"{round(value):,}" if abs(value) >= 1000 or value == round(value) else f"{value:.3g}"


def amount(used: float, limit: float, unit: str) -> str:
    """Return how much of a limit is used, such as ``3 of 12 trials``; with the unit ``s`` both as durations: ``3 min 5 s of 2 h``."""
    if unit == "s":
        return f"{duration(used)} of {duration(limit)}"
    return f"{number(used)} of {number(limit)} {unit}"


def one_line(text: str) -> str:
    """Return text from outside on one line: without terminal control characters, with one space between words."""
    return " ".join(printable(text).split())


def printable(text: str) -> str:
    """Return text from outside with a space for each character that is not printable, such as a line break; the length is unchanged."""
    return "".join(character if character.isprintable() else " " for character in text)
