"""The node's cache folder: its path, the lock of an entry, and writing entries (folders and JSON files) as a whole or not at all."""

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
    """Return the absolute path of the cache folder: the environment's ``INJERTO_CACHE``, else the user's cache folder."""
    return Path(os.environ.get("INJERTO_CACHE") or platformdirs.user_cache_dir("injerto")).expanduser().resolve()


@contextmanager
def locked(entry: Path) -> Iterator[None]:
    """Hold the lock of a cache entry during the block; wait while another thread or process holds it.

    Raises ``ResourceError`` if the disk is full or the cache cannot be written.
    """
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
    """Yield an empty folder to write to. It replaces `entry` if the block succeeds, and is removed if the block raises.

    The caller must hold the entry's lock (`locked`). Raises ``ResourceError`` if the disk is full or the cache cannot be written.
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
    """Write a value as a JSON file, whole or not at all. Raises ``ResourceError`` if the disk is full or the cache cannot be written."""
    with _cache_errors(path), atomic_write(path) as file:
        file.write(json.dumps(value).encode())


def read_json(path: Path) -> Any | None:
    """Return the value in a JSON file; None if the file is missing, cannot be read or is not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


@contextmanager
def _cache_errors(entry: Path) -> Iterator[None]:
    """Turn an ``OSError`` of the block into ``ResourceError`` if the disk is full or the cache cannot be written; others pass."""
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
