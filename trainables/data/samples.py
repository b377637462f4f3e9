"""`Samples`, the labelled images of a source, and `listed`, which names some of them in a message."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from os.path import isabs, join, normpath
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from trainables.config import TaskName
from trainables.errors import DataError
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
        inside = join(folder, "")
        paths = tuple(str(path).removeprefix(inside) for path in self.paths)
        if self.source is not None and (outside := [path for path in paths if path.startswith("/")]):
            raise DataError(f"{len(outside):,} images of {self.display_name} are outside of it: {listed(outside)}; put them inside")
        return location, paths


def is_outside(path: str) -> bool:
    """Return whether a path relative to a folder leads out of that folder: an absolute one, or one such as '../x.png'."""
    return isabs(path) or normpath(path).split("/", 1)[0] == ".."


def check_inside(paths: Sequence[str], location: str) -> None:
    """Raise ``DataError`` if one of the paths, which are relative to `location`, `is_outside` of it."""
    if outside := [path for path in paths if is_outside(path)]:
        raise DataError(
            f"{len(outside):,} of {len(paths):,} images are outside of {redact(location)}: {listed(outside)}; if you trust the table that "
            "names them, start a search with --set data.outside_paths=true"
        )


def listed(names: Iterable[object], count: int | None = None) -> str:
    """Return a text of the first eight names, such as 'a, b and 3 more'. `count`: the number of all names, if `names` holds only some."""
    names = list(names)
    more = (len(names) if count is None else count) - min(len(names), LISTED)
    return ", ".join(_printable(str(name)) for name in names[:LISTED]) + (f" and {more:,} more" if more else "")


def _printable(text: str) -> str:
    """Return a text with escapes if it holds control characters, which a terminal would execute, or others that are not printable."""
    return text if text.isprintable() else ascii(text)
