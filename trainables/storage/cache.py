"""The node's cache folder: where it is, and entries that have one writer at a time and are whole or absent."""

import errno
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import platformdirs
from filelock import FileLock

from trainables.errors import ResourceError
from trainables.storage.atomic_write import NO_SPACE, atomic_write

NOT_WRITABLE = frozenset({errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR})


def cache_root() -> Path:
    """Return the cache folder: ``INJERTO_CACHE``, else the platform's own."""
    return Path(os.environ.get("INJERTO_CACHE") or platformdirs.user_cache_dir("injerto")).expanduser().resolve()


@contextmanager
def locked(entry: Path) -> Iterator[None]:
    """Hold the lock of a cache entry, across threads and processes."""
    lock = FileLock(entry.with_name(f".{entry.name}.lock"))
    with _cache_errors(entry):
        entry.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextmanager
def publishing(entry: Path) -> Iterator[Path]:
    """Give an empty folder that becomes `entry` if the block succeeds, and is removed if it does not.

    The caller holds the entry's lock (`locked`). Raises ``ResourceError`` where the disk is full or the cache cannot be written.
    """
    partial = entry.with_name(f".{entry.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        with _cache_errors(entry):
            partial.mkdir(parents=True)
            yield partial
            shutil.rmtree(entry, ignore_errors=True)
            partial.rename(entry)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file, whole or not at all. Raises ``ResourceError`` where the disk is full or the cache cannot be written."""
    with _cache_errors(path), atomic_write(path) as file:
        file.write(json.dumps(value).encode())


def read_json(path: Path) -> Any | None:
    """Return what `write_json` wrote; None where the file is missing or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


@contextmanager
def _cache_errors(entry: Path) -> Iterator[None]:
    """Turn a full disk, or a cache that cannot be written, into ``ResourceError``."""
    try:
        yield
    except OSError as error:
        if error.errno in NO_SPACE:
            raise ResourceError(
                f"no space left for {entry.name} in {entry.parent} ({error.strerror}); no half-written file stays; "
                "free some disk, or set INJERTO_CACHE to a folder on a larger one"
            ) from None
        if error.errno in NOT_WRITABLE:
            raise ResourceError(f"cannot write to {entry.parent} ({error.strerror}); set INJERTO_CACHE to a folder that you own") from None
        raise
