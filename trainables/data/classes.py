"""`read_classes`, which finds the classes, their order and the positive class, for folders and tables alike."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from trainables.config import TaskName
from trainables.data.samples import listed
from trainables.data.source_options import SourceOptions
from trainables.errors import DataError, did_you_mean

POSITIVE_NAMES = {
    frozenset(pair): pair[1]
    for pair in (
        *(("0", "1"), ("-1", "1"), ("false", "true"), ("f", "t"), ("no", "yes"), ("n", "y"), ("off", "on")),
        *(("negative", "positive"), ("neg", "pos"), ("absent", "present"), ("normal", "abnormal"), ("benign", "malignant")),
    )
}
"""Two class names in lower case, of which one says by itself that it is the positive class → that one."""
CHANGE = "--task changes it"


class Classes(NamedTuple):
    """The classes of a task, binary or multiclass."""

    task: TaskName
    names: tuple[str, ...]  # in the order of the outputs; in a binary task the second is the positive class
    note: str  # for the user: the task, the positive class, and why


def read_classes(labels: Sequence[str], options: SourceOptions, origin: str, change: str = CHANGE) -> Classes:
    """Return the classes of images of one class each: `options.task`, else binary for two classes and multiclass for more.

    `labels` holds each image's class, whether the image can be read or not. `origin` says in messages where the labels come from, `change`
    how to choose another task. Raises ``DataError`` for one class, for binary with more than two, and as `order_classes` does; also for a
    `options.positive` that is no class, or not the second of `options.classes`.
    """
    names, task = order_classes(labels, options.classes), options.task
    if len(names) < 2:
        raise DataError(f"{origin} gives one class only ({listed(names)}); at least two are needed")
    if task == "binary" and len(names) > 2:
        raise DataError(f"binary needs two classes (labels 0 and 1, say) but {origin} gives {len(names)}: {listed(names)}")
    if task is not None:
        note = f"task: {task}, as given, {len(names)} classes from {origin}"
    else:
        task = "binary" if len(names) == 2 else "multiclass"
        note = f"task: {task}, inferred from {len(names)} classes in {origin}; {change}"
    if task != "binary":
        return Classes(task, names, note)
    positive, reason = _positive_class(names, labels, options)
    others = tuple(name for name in names if name != positive)
    return Classes(task, (*others, positive), f"{note}; the positive class is {positive!r}, {reason}")


def _positive_class(names: tuple[str, ...], labels: Sequence[str], options: SourceOptions) -> tuple[str, str]:
    """Return the positive one of two classes, and the reason for the note.

    It is `options.positive`, else the second of `options.classes`, else what `POSITIVE_NAMES` says, else the rarer class. The last counts
    every label, also those of unreadable images, so that a repaired file does not change the order of the classes.
    """
    if options.positive is not None:
        if options.positive not in names:
            raise DataError(f"data.positive names {options.positive!r}, which no image has{did_you_mean(options.positive, names)}")
        if options.classes and options.positive != names[1]:
            raise DataError(
                f"data.positive is {options.positive!r}, but data.classes names {names[1]!r} second, which makes that the positive class; "
                "remove one of the two settings, or name the positive class second"
            )
        return options.positive, "as given"
    if options.classes:
        return names[1], "because it is the second of data.classes"
    by_name = {name.lower(): name for name in names}
    if (conventional := POSITIVE_NAMES.get(frozenset(by_name))) is not None:
        return by_name[conventional], "because of its name; data.positive names another"
    counts = Counter(labels)
    if counts[names[0]] == counts[names[1]]:
        return names[1], f"the second by name, because each has {counts[names[1]]:,} images; data.positive names another"
    positive = min(names, key=counts.__getitem__)
    return positive, f"the rarer one ({counts[positive]:,} of {len(labels):,} images); data.positive names another"


def order_classes(names: Iterable[str], wanted: Sequence[str]) -> tuple[str, ...]:
    """Return the distinct names in the order of `wanted`; if that is empty, sorted (by value if all are numbers).

    Raises ``DataError`` if `wanted` is not empty and does not hold exactly these names, each once.
    """
    distinct = set(names)
    if wanted:
        for name in wanted:
            if name not in distinct:
                raise DataError(f"classes names {name!r}, which no image has{did_you_mean(name, sorted(distinct))}")
        if missing := sorted(distinct - set(wanted)):
            raise DataError(f"classes leaves out {listed(missing)}; name every class once, in the order of the outputs")
        if len(set(wanted)) < len(wanted):
            raise DataError(f"classes names {Counter(wanted).most_common(1)[0][0]!r} twice")
        return tuple(wanted)
    numbers = {name: number(name) for name in distinct}
    if all(value is not None for value in numbers.values()):
        return tuple(sorted(distinct, key=lambda name: (numbers[name], name)))
    return tuple(sorted(distinct))


def number(text: str) -> float | None:
    """Return the value of a text that is a finite number; None for any other text."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if np.isfinite(value) and "_" not in text else None
