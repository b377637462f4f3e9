"""What the user names (an image folder, a CSV, a bucket of either, the built-in sample) becomes ``Samples``."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from trainables.config import TaskName
from trainables.data.bucket_copy import copy_bucket
from trainables.data.folders import builtin, files_in, folders_in, is_litter, read_folder
from trainables.data.samples import Home, Samples, listed
from trainables.data.tables import read_table
from trainables.errors import DataError
from trainables.storage.locations import is_url
from trainables.thread_map import Progress

BUILTIN = "builtin:"
TABLES = {".csv", ".tsv"}

__all__ = ["Samples", "read_source"]


def read_source(
    source: str,
    *,
    task: TaskName | None = None,
    image_column: str | None = None,
    label_columns: Sequence[str] = (),
    header: bool = True,
    extension: str = "",
    strip_prefix: str = "",
    image_folder: str | None = None,
    split_column: str = "split",
    group_column: str = "group",
    classes: Sequence[str] = (),
    progress: Progress | None = None,
) -> Samples:
    """Return the samples of an image folder, a CSV, a folder that holds one CSV, a bucket's URL of any of them, or ``builtin:digits``.

    Raises ``DataError`` for whatever cannot be read in one way only; the message names the option that decides it. A bucket is copied
    to this machine first, and raises what `copy_bucket` does.
    """
    copy = copy_bucket(source, progress) if is_url(source) else None
    if copy is not None:
        source, image_folder = str(copy.path), copy.inside(image_folder)
    try:
        folder = builtin(source.removeprefix(BUILTIN)) if source.startswith(BUILTIN) else None
        path = folder or Path(source).expanduser()
        if not path.exists():
            raise DataError(f"no file or folder {source!r}; give an image folder, a CSV file, a bucket's URL of either, or {BUILTIN}digits")
        table = path if path.is_file() else _table_in(path)
        if table is None:
            samples = read_folder(path.resolve(), task, classes)
        else:
            samples = read_table(
                table.resolve(),
                task=task,
                image_column=image_column,
                label_columns=tuple(label_columns),
                header=header,
                extension=extension,
                strip_prefix=strip_prefix,
                image_folder=image_folder,
                split_column=split_column,
                group_column=group_column,
                classes=tuple(classes),
            )
    except OSError as error:
        raise DataError(f"cannot read {source!r}: {error.strerror}") from None
    except DataError as error:
        raise error if copy is None else DataError(copy.in_words(str(error))) from None
    if copy is not None:
        return replace(samples, home=Home(copy.folder, copy.url))
    return samples if folder is None else replace(samples, home=Home(folder, source))


def _table_in(folder: Path) -> Path | None:
    tables = sorted(file for file in folder.iterdir() if file.suffix.lower() in TABLES and file.is_file() and not is_litter(file.name))
    if len(tables) == 1:
        return tables[0]
    if tables and sum(any(files_in(child)) for child in folders_in(folder)) < 2:
        raise DataError(f"{folder} holds {len(tables)} tables ({listed(file.name for file in tables)}); name the one to use: {tables[0]}")
    return None
