"""Writing a whole file or none: a reader sees the old file or the new one, never a part of it."""

import errno
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""Error numbers that mean: the disk is full, the user's quota is used up, or the file is larger than its limit."""
_TEMPORARY = re.compile(r"\.(?P<name>.+)\.[0-9a-f]{16}\.partial", re.DOTALL)


def temporary_path(path: Path) -> Path:
    """Return a hidden name beside `path` that no other thread, process or machine writes to; each call returns another."""
    return path.with_name(f".{path.name}.{os.urandom(8).hex()}.partial")


def is_temporary(name: str) -> bool:
    """Return whether a file name is one that `temporary_path` gives."""
    return _TEMPORARY.fullmatch(name) is not None


def remove_temporaries(path: Path, *, older_than: float | None = None) -> None:
    """Remove the temporary files of `path`, which killed writers leave: all, or those not written for `older_than` seconds."""
    with suppress(FileNotFoundError, NotADirectoryError):
        for name in os.listdir(path.parent):
            match = _TEMPORARY.fullmatch(name)
            if match and match["name"] == path.name:
                temporary = path.with_name(name)
                if older_than is None or time.time() - temporary.stat().st_mtime > older_than:
                    temporary.unlink(missing_ok=True)


@contextmanager
def atomic_write(path: Path, *, durable: bool = False) -> Iterator[BinaryIO]:
    """Give a binary file to write to, which replaces `path` if the block succeeds and is removed if it does not.

    With `durable`, the content is on disk before the file has its name, and the name before the block ends (Linux man page fsync(2)).
    Raises ``OSError`` where the folder cannot be written or the disk is full (`NO_SPACE`).
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
    """Write a folder's list of names to disk, so that a new name in it survives a loss of power."""
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
