"""``Samples``, what a source holds before any image is read; and the names, classes and tasks that folders and tables share."""

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
"""Name of a folder, or value of a split column → the split."""
IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".gif", ".bmp", ".tif", ".tiff", ".webp", ".jp2", ".avif", ".ppm", ".pgm"}
LISTED = 8  # names in a message; of the others only the number is given


class SourceLocation(NamedTuple):
    """A source's folder on this machine, and the location by which every machine finds it."""

    folder: Path
    location: str  # the folder again, a bucket's URL, or builtin:digits


@dataclass(frozen=True)
class Samples:
    """The labelled images of a source, ordered by name. No image file has been read yet."""

    root: Path
    names: tuple[str, ...]  # paths relative to root, '/' between parts; unique
    paths: tuple[Path, ...]
    task: TaskName
    classes: tuple[str, ...]  # class or label names; for regression the target's name
    targets: npt.NDArray[Any]  # (N,) int64 binary, multiclass; (N, K) float32 multilabel; (N,) float64 regression
    splits: npt.NDArray[np.str_] | None  # (N,) train, validation, test or ''
    groups: npt.NDArray[np.str_] | None  # (N,)
    notes: tuple[str, ...]  # sentences for the user
    source: SourceLocation | None = None  # of a bucket or a built-in set; of a folder it is root

    @property
    def display_name(self) -> str:
        """The source's name in messages."""
        return str(self.root) if self.source is None else redact(self.source.location)

    def file_locations(self) -> tuple[str, tuple[str, ...]]:
        """Return where every machine finds the files: one location, and each file's path in it (absolute if outside of a folder).

        Raises ``DataError`` for files outside of a bucket, which no other machine would find.
        """
        folder, location = self.source or SourceLocation(self.root, str(self.root))
        paths = tuple(str(path).removeprefix(f"{folder}/") for path in self.paths)
        if self.source is not None and (outside := [path for path in paths if path.startswith("/")]):
            raise DataError(f"{len(outside):,} images of {self.display_name} are outside of it: {listed(outside)}; put them inside")
        return location, paths


def listed(names: Iterable[object], count: int | None = None) -> str:
    """Return up to eight names and how many more there are. `count` is the number of all names, by default those given."""
    names = list(names)
    more = (len(names) if count is None else count) - min(len(names), LISTED)
    return ", ".join(_printable(str(name)) for name in names[:LISTED]) + (f" and {more:,} more" if more else "")


def _printable(text: str) -> str:
    """Escape control characters, which a terminal would execute, and characters that it cannot encode."""
    return text if text.isprintable() else ascii(text)


def order_classes(names: Iterable[str], wanted: Sequence[str]) -> tuple[str, ...]:
    """Return the class names in the order `wanted`, else sorted (numbers by value). Raises ``DataError`` if `wanted` has other names."""
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
    """Return the finite number that a text holds, else None."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if np.isfinite(value) and "_" not in text else None


def class_task(classes: Sequence[str], task: TaskName | None, origin: str) -> tuple[TaskName, str]:
    """Return binary or multiclass for images of one class each, and a note with the reason. Raises ``DataError`` for a wrong number."""
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
