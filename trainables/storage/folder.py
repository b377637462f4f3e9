"""`Folder`, which reads and writes the files of a `Root` in a folder on disk."""

import math
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from stat import S_ISREG
from typing import BinaryIO

from trainables.storage.atomic_write import atomic_write, is_temporary, remove_abandoned, remove_temporaries
from trainables.storage.keys import StoredFile
from trainables.storage.storage_errors import absent_is_none

ABANDONED_SECONDS = 3600.0  # without a write, after which a temporary file has lost its writer


class Folder:
    """The files below a folder, with the same methods as `Bucket`. Temporary files of `atomic_write` are never listed.

    Every method raises ``OSError`` if the disk fails or refuses.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def names(self) -> list[str]:
        """Return the names of the files and folders directly in the folder; empty if there is no such folder."""
        with absent_is_none():
            return [name for name in os.listdir(self.path) if not is_temporary(name)]
        return []

    def files(self) -> list[StoredFile]:
        """Return all files at any depth, in no order; empty if there is no such folder."""
        with absent_is_none():
            return [_stored_file(self.path, entry) for entry in _walk(self.path) if not is_temporary(entry.name)]
        return []

    def fetch(self, key: str, path: Path) -> bool:
        """Copy the file of a key to the file `path`. Return whether there is such a file."""
        with absent_is_none():
            shutil.copyfile(self.path / key, path)
            return True
        return False

    def size(self, key: str) -> int | None:
        """Return a file's size in bytes; None if there is no such file."""
        with absent_is_none():
            status = (self.path / key).stat()
            return status.st_size if S_ISREG(status.st_mode) else None
        return None

    def open(self, key: str) -> BinaryIO | None:
        """Return a file open for reading in binary mode; None if there is no such file."""
        with absent_is_none():
            return (self.path / key).open("rb")
        return None

    @contextmanager
    def writing(self, key: str) -> Iterator[BinaryIO]:
        """Yield a binary file that replaces the key's file if the block succeeds, see `atomic_write` with `durable`.

        Afterwards temporary files that killed writers left beside it over an hour ago are removed.
        """
        path = self.path / key
        with atomic_write(path, durable=True) as file:
            yield file
        with suppress(OSError):
            remove_abandoned(path.parent, ABANDONED_SECONDS)

    def remove(self, key: str) -> None:
        """Remove a file, if it exists, and the temporary files that killed writers of it left."""
        path = self.path / key
        with absent_is_none():
            path.unlink()
        remove_temporaries(path)

    def remove_abandoned(self) -> None:
        """Remove the temporary files directly in the folder, whatever their age."""
        remove_abandoned(self.path, -math.inf)


def _walk(folder: Path | str) -> Iterator[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _walk(entry.path)
            else:
                yield entry


def _stored_file(folder: Path, entry: os.DirEntry[str]) -> StoredFile:
    status = entry.stat()
    return StoredFile(entry.path[len(str(folder)) + 1 :], status.st_size, status.st_mtime_ns)
