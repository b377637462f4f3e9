"""`read_numbers`, which decides whether the numbers in a label column are classes or a quantity."""

import re
from collections import Counter
from collections.abc import Sequence
from typing import Literal, NamedTuple

CLASS_WORDS = {
    *("label", "labels", "class", "classes", "category", "categories", "type", "types", "kind", "group", "code", "id", "ids", "identity"),
    *("species", "breed", "genus"),
}
QUANTITY_WORDS = {
    *("value", "values", "amount", "quantity", "count", "counts", "total", "sum", "mean", "average", "avg", "median", "min", "max"),
    *("ratio", "rate", "percent", "percentage", "share", "fraction", "score", "scores", "rating", "ratings", "price", "cost", "income"),
    *("salary", "age", "ages", "year", "years", "month", "months", "week", "weeks", "day", "days", "hour", "hours", "minute", "minutes"),
    *("second", "seconds", "time", "duration", "weight", "mass", "height", "width", "length", "depth", "thickness", "size", "area"),
    *("volume", "diameter", "radius", "perimeter", "distance", "angle", "degree", "degrees", "rotation", "yaw", "pitch", "roll", "speed"),
    *("velocity", "temperature", "temp", "pressure", "humidity", "density", "concentration", "dose", "yield", "intensity", "brightness"),
    *("latitude", "longitude", "lat", "lon", "bmi"),
}
COUNT_PREFIXES = {"n", "nr", "num", "number"}
"""First words of a name that counts something, such as 'num_leaves'."""
MOST_NUMBERED_CLASSES = 100
FEW_ROWS, MANY_ROWS = 2, 5  # rows a value, on average: with a name for classes, and with a name that says nothing


class Reading(NamedTuple):
    """How a column of numbers is read."""

    classes: bool  # whether the numbers are classes; else they are a quantity
    reason: str  # for the user: why, and how to choose the other reading


def read_numbers(column: str, values: Sequence[float]) -> Reading:
    """Return whether the numbers in a column are classes or a quantity; the order of `values` does not matter.

    0 and 1 alone are classes, and fractions are a quantity. For other whole numbers the name of the column decides, see `name_kind`.
    A name for classes: they are classes if there are at most 100 different ones, or if each occurs twice on average. A name for a quantity:
    they are a quantity. Any other name: they are classes if each occurs twice or more, five times on average, and they are two numbers
    only, or count from 0 or 1 without a gap, as class numbers do.
    """
    counts = Counter(values)
    span = f"the numbers in column {column!r} ({min(counts):g} to {max(counts):g})"
    if set(counts) <= {0.0, 1.0}:
        return Reading(True, "--task changes it")
    if not all(value == int(value) for value in counts):
        return Reading(False, f"inferred from {span}; --task changes it")
    classes, why = _whole_numbers(name_kind(column), counts)
    if classes:
        return Reading(True, f"{span} are read as classes {why}; if they measure something, pass --task regression")
    return Reading(False, f"inferred from {span}, {why}; if they are classes, pass --task multiclass")


def _whole_numbers(kind: str | None, counts: Counter[float]) -> tuple[bool, str]:
    """Return whether whole numbers are classes, and why. `kind`: see `name_kind`. `counts`: number → how often it occurs."""
    average = counts.total() / len(counts)
    if kind == "quantity":
        return False, "because of its name"
    if kind == "classes":
        few = len(counts) <= MOST_NUMBERED_CLASSES
        return (True, "because of its name") if few or average >= FEW_ROWS else (False, "most of which do not repeat")
    if min(counts.values()) < FEW_ROWS or average < MANY_ROWS:
        return False, "some of which occur only once or a few times"
    if len(counts) == 2 or (min(counts) in (0, 1) and max(counts) - min(counts) + 1 == len(counts)):
        return True, "because they repeat"
    return False, "which leave gaps or do not begin at 0 or 1"


def name_kind(column: str) -> Literal["classes", "quantity"] | None:
    """Return what the last telling word of a column's name says: 'class_id' names classes, 'sign_value' a quantity; None: no such word.

    Words end at a change to upper case, and at every character that is no letter from A to Z. 'num_leaves' and the like name a quantity.
    """
    words = [word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", column)]
    for word in reversed(words):
        if word in CLASS_WORDS:
            return "classes"
        if word in QUANTITY_WORDS:
            return "quantity"
    return "quantity" if len(words) > 1 and words[0] in COUNT_PREFIXES else None
