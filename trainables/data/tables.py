"""`read_table`, which reads a CSV file of image paths and labels into `Samples`."""

from dataclasses import dataclass
from os.path import isfile, join, normpath, realpath, split
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from trainables.data.csv_table import Table, read_csv
from trainables.data.labels import read_labels
from trainables.data.samples import IMAGE_SUFFIXES, LISTED, SPLIT_NAMES, Samples, is_outside, listed
from trainables.data.source_options import DEFAULT, SourceOptions
from trainables.errors import DataError

IMAGE_COLUMNS = (
    *("image_path", "filepath", "file_path", "image", "filename", "file_name", "file", "path", "img", "img_path"),
    *("image_name", "imagename", "image_file", "img_name", "photo", "picture", "image_id", "id"),
)


def read_table(path: Path, options: SourceOptions) -> Samples:
    """Return the images and labels that a CSV lists, ordered by name.

    Raises ``DataError`` if the file is no valid table, a column is missing or ambiguous, an image does not exist or is outside of the image
    folder without `options.outside_paths`, or a cell of a label, split or group column cannot be used.
    """
    table = read_csv(path, options.header)
    columns, locate = _columns(table, options)
    names = _names(table, columns.image, locate, options)
    labels = read_labels(table, list(columns.labels), options)
    notes = [labels.note, f"read from {path.name}: images from column {columns.image!r}, labels from {listed(map(repr, columns.labels))}"]
    splits = _splits(table, columns.split) if columns.split is not None else None
    groups = _groups(table, columns.group, columns.image) if columns.group is not None else None
    keep, unique = _unrepeated(names, labels.targets, notes)
    keep = sorted(keep, key=lambda row: unique[row])
    return Samples(
        root=locate.root,
        names=tuple(unique[row] for row in keep),
        paths=tuple(locate.root / names[row] for row in keep),
        task=labels.task,
        classes=labels.classes,
        targets=labels.targets[keep],
        splits=None if splits is None else splits[keep],
        groups=None if groups is None else groups[keep],
        notes=tuple(notes),
    )


@dataclass(frozen=True)
class _Columns:
    """Which columns hold the image paths, the labels, the split and the group; None: not used."""

    image: str
    labels: tuple[str, ...]
    split: str | None
    group: str | None


def _columns(table: Table, options: SourceOptions) -> tuple[_Columns, "_Locator"]:
    """Return the columns to use, and the function from a cell to an image's path.

    Raises ``DataError`` for a missing column or image folder, if the image column cannot be found, and if one is both image and label.
    """
    split = _optional_column(table, options.split_column, "split_column")
    group = _optional_column(table, options.group_column, "group_column")
    used = {split, group, *options.label_columns}
    free = [column for column in table.columns if column not in used and not _is_index(table, column)]
    locate = _Locator(_image_folder(table.path, options.image_folder), options.strip_prefix, options.extension)
    if options.image_column is not None:
        image = table.check(options.image_column, "data.image_column")
    else:
        image = _image_column(table, free, locate, options.header)
    labels = [table.check(column, "data.label_columns") for column in options.label_columns]
    labels = labels or [column for column in free if column != image]
    if image in labels:
        raise DataError(
            f"column {image!r} of {table.path.name} cannot be both image and label; pass data.image_column and data.label_columns"
        )
    return _Columns(image, tuple(labels), split, group), locate


def _optional_column(table: Table, name: str, option: str) -> str | None:
    """Return `name`, the column that an option holds; None if it is '', or is the default and the table has no such column.

    `option` is a field of `SourceOptions`. Raises ``DataError`` if the table lacks a column that is not the default.
    """
    if not name or (name not in table.columns and name == getattr(DEFAULT, option)):
        return None
    return table.check(name, f"data.{option}")


def _image_folder(table: Path, image_folder: str | None) -> Path:
    if image_folder is None:
        return table.parent
    for folder in (Path(image_folder).expanduser(), table.parent / image_folder):
        if folder.is_dir():
            return folder.resolve()
    raise DataError(f"no folder {image_folder!r} (data.image_folder), neither here nor beside {table.name}")


def _is_index(table: Table, column: str) -> bool:
    """Return whether a column is an index as pandas writes it: a name such as 'Unnamed: 0', and the row numbers from 0 or 1."""
    if column.lower() not in ("", "unnamed: 0", "index"):
        return False
    values = table.values(column)
    return values in ([str(row) for row in range(len(values))], [str(row + 1) for row in range(len(values))])


@dataclass(frozen=True)
class _Locator:
    """A function from a cell to an image's path relative to `root`, the image folder (absolute if outside of it).

    It removes `strip_prefix`, adds `extension` if it is missing, and reads a backslash as '/' unless a file has the name as written.
    A path that reaches the image folder through a link is inside of it. So is a link in the folder, wherever it leads.
    """

    root: Path
    strip_prefix: str
    extension: str

    def __call__(self, cell: str) -> str:
        extension = self.extension if self.extension.startswith(".") or not self.extension else f".{self.extension}"
        if self.strip_prefix and cell.startswith(self.strip_prefix):
            cell = cell.removeprefix(self.strip_prefix).lstrip("/\\")
        if extension and not cell.lower().endswith(extension.lower()):
            cell += extension
        if "\\" in cell and not isfile(join(self.root, cell)):
            cell = cell.replace("\\", "/")
        path, inside = normpath(join(self.root, cell)), join(self.root, "")
        if not path.startswith(inside):
            folder, name = split(path)
            real = join(realpath(folder), name)
            path = real if real.startswith(inside) else path
        return path.removeprefix(inside)

    def exists(self, cell: str) -> bool:
        """Return whether a cell names a file that exists."""
        return bool(cell) and "\0" not in cell and isfile(join(self.root, self(cell)))


def _image_column(table: Table, free: list[str], locate: _Locator, header: bool) -> str:
    """Return the column of image paths among `free`: by name and files that exist, by files, by suffixes, or by name alone.

    Raises ``DataError`` if no column or several fit, and if `header` is true but the first line names an image.
    """
    sample = {column: table.values(column)[:50] for column in free}
    existing = {column: sum(map(locate.exists, cells)) for column, cells in sample.items()}
    if header and any(locate.exists(column) for column in table.columns):
        raise DataError(f"the first line of {table.path.name} names an image, so it is not a header; pass --set data.header=false")
    named = [column for name in IMAGE_COLUMNS for column in free if column.lower() == name] if header else []
    looks = [column for column, cells in sample.items() if all(Path(cell).suffix.lower() in IMAGE_SUFFIXES for cell in cells)]
    for candidates in ([c for c in named if existing[c]], [c for c in free if existing[c]], looks, named):
        if len(candidates) == 1 or (candidates and candidates[0] in named):
            return candidates[0]
        if candidates:
            raise DataError(
                f"{listed(map(repr, candidates))} of {table.path.name} all look like image paths; pass --set data.image_column=NAME"
            )
    raise DataError(
        f"no column of {table.path.name} looks like image paths ({listed(map(repr, table.columns))}); pass --set data.image_column=NAME, "
        "and data.extension, data.strip_prefix or data.image_folder if the names need them"
    )


def _names(table: Table, column: str, locate: _Locator, options: SourceOptions) -> list[str]:
    """Return each row's path relative to the image folder.

    Raises ``DataError`` for images that do not exist, and for those outside of the folder unless `options.outside_paths`.
    """
    cells = table.values(column)
    missing = [row for row, cell in enumerate(cells) if not locate.exists(cell)]
    if missing:
        looked = [f"{cells[row]!r} (line {table.lines[row]})" for row in missing[:LISTED]]
        example = locate.root / locate(cells[missing[0]]) if cells[missing[0]] else locate.root
        raise DataError(
            f"{len(missing):,} of {len(cells):,} images in {table.path.name} do not exist: {listed(looked, len(missing))}; "
            f"looked for {example}. If names lack an extension pass --set data.extension=.jpg; if they begin with another "
            "machine's folder, --set data.strip_prefix=THAT; if the images are elsewhere, --set data.image_folder=FOLDER"
        )
    names = [locate(cell) for cell in cells]
    if not options.outside_paths and (outside := [row for row, name in enumerate(names) if is_outside(name)]):
        raise DataError(
            f"{len(outside):,} of {len(cells):,} rows in {table.path.name} name images outside of the image folder {locate.root}: "
            f"{table.cells(column, outside)}; if all images are below another folder, pass --set data.image_folder=THAT; "
            "if you trust the table, --set data.outside_paths=true"
        )
    return names


def _splits(table: Table, column: str) -> npt.NDArray[np.str_]:
    values = [value.lower() for value in table.values(column)]
    known = {**SPLIT_NAMES, "dev": "validation", "": ""}
    if wrong := [row for row, value in enumerate(values) if value not in known]:
        raise DataError(
            f"column {column!r} must hold train, validation or test (or nothing) but holds {table.cells(column, wrong)}; "
            "if it does not hold splits, pass --set data.split_column=''"
        )
    return np.array([known[value] for value in values], dtype="<U10")


def _groups(table: Table, column: str, image: str) -> npt.NDArray[np.str_]:
    groups = np.array(table.values(column))
    if missing := [row for row, value in enumerate(groups) if not value]:
        raise DataError(f"{len(missing):,} rows of {table.path.name} have no {column!r}: {table.cells(image, missing)}")
    return groups


def _unrepeated(names: list[str], targets: npt.NDArray[Any], notes: list[str]) -> tuple[list[int], list[str]]:
    """Return the indices of the rows to keep, and a unique name for every row.

    Of rows with the same image and the same label the first is kept; the number of the others is appended to `notes`. Rows with the same
    image and other labels are all kept, named 'name', 'name#2', ... Raises ``DataError`` if over half of the images have several labels.
    """
    seen: dict[str, list[int]] = {}
    keep, unique, repeated = [], list(names), 0
    for row, name in enumerate(names):
        before = seen.setdefault(name, [])
        if any(np.array_equal(targets[row], targets[other]) for other in before):
            repeated += 1
            continue
        before.append(row)
        keep.append(row)
        if len(before) > 1:
            unique[row] = f"{name}#{len(before)}"
    contradicting = sum(len(rows) > 1 for rows in seen.values())
    if contradicting > len(seen) / 2:
        raise DataError(
            f"{contradicting:,} of {len(seen):,} images are listed with several labels; for multilabel write them on one row as 'a|b|c'"
        )
    if repeated:
        notes.append(f"{repeated:,} rows repeat an image with the same label and were kept once")
    return keep, unique
