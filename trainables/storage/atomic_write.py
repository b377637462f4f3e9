"""`atomic_write`, which replaces a file as a whole (readers see the old or the new content), and its temporary files."""

import errno
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""Values of ``OSError.errno``: the disk is full, the user's quota is used up, or the file is larger than its limit."""
_TEMPORARY = re.compile(r"\.(?P<name>.+)\.[0-9a-f]{16}\.partial", re.DOTALL)


def temporary_path(path: Path) -> Path:
    """Return a new random path in the folder of `path`, hidden, which no other thread, process or machine uses; creates nothing."""
    return path.with_name(f".{path.name}.{os.urandom(8).hex()}.partial")


def is_temporary(name: str) -> bool:
    """Return whether a file name (without folder) has the form that `temporary_path` gives."""
    return _TEMPORARY.fullmatch(name) is not None


def remove_temporaries(path: Path) -> None:
    """Remove the temporary files that killed writers of `path` left."""
    for temporary, name in _temporaries(path.parent):
        if name == path.name:
            temporary.unlink(missing_ok=True)


def remove_abandoned(folder: Path, seconds: float) -> None:
    """Remove the temporary files in a folder, of files of any name, that were last written to more than so many seconds ago."""
    for temporary, _ in _temporaries(folder):
        with suppress(FileNotFoundError):
            if time.time() - temporary.stat().st_mtime > seconds:
                temporary.unlink()


def _temporaries(folder: Path) -> list[tuple[Path, str]]:
    """Return the temporary files in a folder, each with the name of the file that its writer meant to replace."""
    with suppress(FileNotFoundError, NotADirectoryError):
        return [(folder / name, match["name"]) for name in os.listdir(folder) if (match := _TEMPORARY.fullmatch(name))]
    return []


@contextmanager
def atomic_write(path: Path, *, durable: bool = False) -> Iterator[BinaryIO]:
    """Yield a new binary file to write to. It replaces `path` if the block succeeds, and is removed if the block raises.

    Creates the folder of `path`. With `durable`, content and name are on disk (fsync(2)) when the ``with`` statement ends, and survive a
    loss of power. Raises ``OSError`` if the folder cannot be written or the disk is full (`NO_SPACE`).
    """
    temporary = temporary_path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with temporary.open("wb") as file:
            yield file
            if durable:
                file.flush()
                os.fsync(file.fileno())
        temporary.replace(path)
        if durable:
            sync_folder(path.parent)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def sync_folder(path: Path) -> None:
    """Write a folder's list of file names to disk (fsync(2)), so that a new name in it survives a loss of power."""
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
