"""`Samples`, the labelled images of a source; and how names, classes and tasks are found, for folders and tables alike."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from trainables.config import TaskName
from trainables.errors import DataError, did_you_mean
from trainables.storage.secrets import redact

SPLIT_NAMES = {
    **dict.fromkeys(("train", "training", "training_set"), "train"),
    **dict.fromkeys(("val", "valid", "validation"), "validation"),
    **dict.fromkeys(("test", "testing", "test_set"), "test"),
}
"""Name of a folder, or value of a split column, in lower case → train, validation or test."""
IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".gif", ".bmp", ".tif", ".tiff", ".webp", ".jp2", ".avif", ".ppm", ".pgm"}
LISTED = 8  # names in a message; of the others only the number is given


class SourceLocation(NamedTuple):
    """Where a source is: its folder on this machine, and its location for every machine."""

    folder: Path
    location: str  # the folder's path, a bucket's URL, or builtin:digits


@dataclass(frozen=True)
class Samples:
    """The N labelled images of a source, ordered by name. No image file has been read yet."""

    root: Path
    names: tuple[str, ...]  # paths relative to root, '/' between parts; unique
    paths: tuple[Path, ...]
    task: TaskName
    classes: tuple[str, ...]  # class or label names; for regression the target's name
    targets: npt.NDArray[Any]  # (N,) int64 binary, multiclass; (N, K) float32 multilabel; (N,) float64 regression
    splits: npt.NDArray[np.str_] | None  # (N,) given by the source: train, validation, test or ''; None: the source gives none
    groups: npt.NDArray[np.str_] | None  # (N,) images of a group stay in one part; None: no groups
    notes: tuple[str, ...]  # sentences for the user
    source: SourceLocation | None = None  # of a bucket or a built-in set; None for a folder, whose location is `root`

    @property
    def display_name(self) -> str:
        """The source's location, without secrets, for messages."""
        return str(self.root) if self.source is None else redact(self.source.location)

    def file_locations(self) -> tuple[str, tuple[str, ...]]:
        """Return a location that every machine can use, and each file's path in it (absolute if it is outside of a folder).

        Raises ``DataError`` for a file outside of a bucket or a built-in set, because no other machine would find it.
        """
        folder, location = self.source or SourceLocation(self.root, str(self.root))
        paths = tuple(str(path).removeprefix(f"{folder}/") for path in self.paths)
        if self.source is not None and (outside := [path for path in paths if path.startswith("/")]):
            raise DataError(f"{len(outside):,} images of {self.display_name} are outside of it: {listed(outside)}; put them inside")
        return location, paths


def listed(names: Iterable[object], count: int | None = None) -> str:
    """Return a text of the first eight names, such as 'a, b and 3 more'. `count`: the number of all names, if `names` holds only some."""
    names = list(names)
    more = (len(names) if count is None else count) - min(len(names), LISTED)
    return ", ".join(_printable(str(name)) for name in names[:LISTED]) + (f" and {more:,} more" if more else "")


def _printable(text: str) -> str:
    """Return a text with escapes if it holds control characters, which a terminal would execute, or others that are not printable."""
    return text if text.isprintable() else ascii(text)


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


def class_task(classes: Sequence[str], task: TaskName | None, origin: str) -> tuple[TaskName, str]:
    """Return the task for images of one class each, and a note that tells the user why: `task`, else binary or multiclass.

    `origin` says in messages where the classes come from. Raises ``DataError`` for one class, and for binary with more than two.
    """
    if len(classes) < 2:
        raise DataError(f"{origin} gives one class only ({listed(classes)}); at least two are needed")
    if task == "binary" and len(classes) > 2:
        raise DataError(f"binary needs two classes (labels 0 and 1, say) but {origin} gives {len(classes)}: {listed(classes)}")
    if task is not None:
        chosen, note = task, f"task: {task}, as given, {len(classes)} classes from {origin}"
    else:
        chosen = "binary" if len(classes) == 2 else "multiclass"
        note = f"task: {chosen}, inferred from {len(classes)} classes in {origin}; --task changes it"
    return chosen, note + (f"; the positive class is {classes[1]!r}" if chosen == "binary" else "")
