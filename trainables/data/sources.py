"""`read_source`, which reads what the user names (an image folder, a CSV file, a bucket, the built-in sample) into `Samples`."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from trainables.data.bucket_copy import BucketCopy, copy_bucket
from trainables.data.folders import builtin, files_in, folders_in, is_litter, read_folder
from trainables.data.samples import Samples, SourceLocation, listed
from trainables.data.source_options import DEFAULT, SourceOptions
from trainables.data.tables import read_table
from trainables.errors import DataError
from trainables.storage.locations import is_url
from trainables.thread_map import OnProgress

BUILTIN = "builtin:"
TABLE_SUFFIXES = {".csv", ".tsv"}


def read_source(source: str, options: SourceOptions = DEFAULT, on_progress: OnProgress | None = None) -> Samples:
    """Return the samples of an image folder, a CSV, a folder that holds one CSV, a bucket's URL of any of them, or ``builtin:digits``.

    Raises ``DataError`` for a source that cannot be read, or that can be read in several ways; the message names the option that
    decides. A bucket is first copied to this machine's cache, see `copy_bucket`, which raises ``StorageError`` and ``ResourceError`` too.
    """
    if is_url(source):
        copy = copy_bucket(source, on_progress)
        with _readable(source, copy):
            options = replace(options, image_folder=copy.inside(options.image_folder))
            return replace(_read_path(str(copy.path), options), source=SourceLocation(copy.folder, copy.url))
    with _readable(source):
        if source.startswith(BUILTIN):
            folder = builtin(source.removeprefix(BUILTIN))
            return replace(_read_path(str(folder), options), source=SourceLocation(folder, source))
        return _read_path(source, options)


@contextmanager
def _readable(source: str, copy: BucketCopy | None = None) -> Iterator[None]:
    """Turn an ``OSError`` of the block into ``DataError``. With `copy`, messages name the bucket instead of the copy's path."""
    try:
        yield
    except OSError as error:
        raise DataError(f"cannot read {source!r}: {error.strerror}") from None
    except DataError as error:
        raise error if copy is None else DataError(copy.with_bucket_names(str(error))) from None


def _read_path(source: str, options: SourceOptions) -> Samples:
    path = Path(source).expanduser()
    if not path.exists():
        raise DataError(f"no file or folder {source!r}; give an image folder, a CSV file, a bucket's URL of either, or {BUILTIN}digits")
    table = path if path.is_file() else _table_in(path)
    samples = read_folder(path.resolve(), options) if table is None else read_table(table.resolve(), options)
    if options.positive is not None and samples.task != "binary":
        raise DataError(f"data.positive names the positive class of a binary task, but the task is {samples.task}; remove data.positive")
    return samples


def _table_in(folder: Path) -> Path | None:
    """Return the only CSV or TSV file in a folder; None if there is none, or several beside two or more folders with files.

    Raises ``DataError`` for several tables without such folders.
    """
    tables = sorted(
        file for file in folder.iterdir() if file.suffix.lower() in TABLE_SUFFIXES and file.is_file() and not is_litter(file.name)
    )
    if len(tables) == 1:
        return tables[0]
    if tables and sum(any(files_in(child)) for child in folders_in(folder)) < 2:
        raise DataError(f"{folder} holds {len(tables)} tables ({listed(file.name for file in tables)}); name the one to use: {tables[0]}")
    return None
