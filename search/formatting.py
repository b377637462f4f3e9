"""Values in few characters: a configuration, a curve, an amount, a time, and text that came from outside."""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

LEVELS = "▁▂▃▄▅▆▇█"
GAP = "·"
CLOCK = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def in_brief(config: Mapping[str, Any]) -> str:
    """Return a configuration in a few words."""
    head = "perceptron" if not config["head_layers"] else f"head {config['head_layers']}×{config['head_units']}"
    return (
        f"{config['backbone']}, {config['optimizer']} {config['learning_rate']:.2g}, unfrozen {config['unfrozen_stages']}, {head}, "
        f"batch {config['batch_size']}, augment {config['augmentation_strength']:g}"
    )


def sparkline(values: Sequence[float], width: int = 16) -> str:
    """Return a curve as at most `width` blocks, the lowest value ▁ and the highest █; a longer one shows the last of each stretch.

    A value that is not finite is shown as ``·``, a curve that never moves at half height.
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
    """Return a time in its two largest units, such as ``45 s``, ``3 min 5 s`` or ``1 h 20 min``; the second unit is rounded."""
    left = max(0, round(seconds))
    for (size, unit), (smaller, next_unit) in pairwise(CLOCK):
        rounded = round(left / smaller) * smaller
        if rounded >= size:
            rest = rounded % size // smaller
            return f"{rounded // size} {unit}" + (f" {rest} {next_unit}" if rest else "")
    return f"{left} s"


def number(value: float) -> str:
    """Return a count or a measure in few digits, thousands apart."""
    return f"{round(value):,}" if abs(value) >= 1000 or value == round(value) else f"{value:.3g}"


def amount(used: float, limit: float, unit: str) -> str:
    """Return how much of a limit is used, such as ``3 of 12 trials`` or ``3 min 5 s of 2 h``."""
    if unit == "s":
        return f"{duration(used)} of {duration(limit)}"
    return f"{number(used)} of {number(limit)} {unit}"


def plain(text: str) -> str:
    """Return text from outside on one line, without characters that steer a terminal, its words one space apart."""
    return " ".join(printable(text).split())


def printable(text: str) -> str:
    """Return text from outside on one line, without characters that steer a terminal, its columns where they were."""
    return "".join(character if character.isprintable() else " " for character in text)
