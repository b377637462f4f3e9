"""The node's cache folder: where it is, one writer at a time, whole or absent, within a disk budget."""

import errno
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import get_ident
from typing import Any

import platformdirs
from filelock import FileLock

from trainables.errors import ConfigError, ResourceError

FREE_SHARE = 0.9  # of the free disk that one cache entry may take
UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def cache_root() -> Path:
    """Return the cache folder: ``INJERTO_CACHE``, else the platform's own."""
    return Path(os.environ.get("INJERTO_CACHE") or platformdirs.user_cache_dir("injerto")).expanduser().resolve()


@contextmanager
def locked(entry: Path) -> Iterator[None]:
    """Hold the lock of a cache entry, across threads and processes."""
    lock = FileLock(entry.with_name(f".{entry.name}.lock"))
    with _space_errors(entry):
        entry.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextmanager
def publishing(entry: Path) -> Iterator[Path]:
    """Give an empty folder that becomes ``entry`` if the block succeeds, and vanishes if it does not.

    Call it with the entry ``locked``. Raises ``ResourceError`` where the disk is full or cannot be written.
    """
    partial = entry.with_name(f".{entry.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        with _space_errors(entry):
            partial.mkdir(parents=True)
            yield partial
            shutil.rmtree(entry, ignore_errors=True)
            partial.rename(entry)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def write_json(path: Path, value: Any) -> None:
    """Write JSON to a temporary name, then rename it."""
    partial = path.with_name(f".{path.name}.{os.getpid()}-{get_ident()}.partial")
    try:
        with _space_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            partial.write_text(json.dumps(value), encoding="utf-8")
            partial.replace(path)
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def read_json(path: Path) -> Any | None:
    """Return what ``write_json`` wrote; None where it is missing or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def parse_bytes(text: str) -> int:
    """Return the bytes that ``'20GB'``, ``'500 MB'`` or ``'1e9'`` names; raises ``ConfigError``."""
    match = re.fullmatch(r"\s*([0-9.]+(?:e[0-9]+)?)\s*([KMGT]?)I?B?\s*", text, re.IGNORECASE)
    try:
        return int(float(match[1]) * UNITS[match[2].upper()]) if match else _not_bytes(text)
    except ValueError:
        return _not_bytes(text)


def require_space(needed: int, folder: Path, budget_bytes: int | None, what: str, or_else: str = "choose a smaller image_size") -> None:
    """Raise ``ResourceError`` unless ``needed`` bytes fit the budget for ``folder`` and the free disk.

    The budget, ``INJERTO_CACHE_BUDGET`` by default, is for everything in the folder; without one only the free disk counts.
    """
    text = os.environ.get("INJERTO_CACHE_BUDGET")
    budget = parse_bytes(text) if budget_bytes is None and text else budget_bytes
    folder.mkdir(parents=True, exist_ok=True)
    free = int(shutil.disk_usage(folder).free * FREE_SHARE)
    left = free
    if budget is not None:
        left = min(free, budget - sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()))
    if needed > left:
        reason = "the free disk" if left == free else f"the budget of {show_bytes(budget or 0)} and what is already cached"
        raise ResourceError(
            f"{what} need {show_bytes(needed)} but {reason} leaves {show_bytes(max(0, left))} in {folder}; "
            "delete what that folder holds (it is made again when needed), raise INJERTO_CACHE_BUDGET, "
            f"set INJERTO_CACHE to a folder on a larger disk, or {or_else}"
        )


def show_bytes(count: int) -> str:
    """Return a number of bytes in words, such as ``1.5 GB``."""
    size, unit = float(count), "bytes"
    for larger in ("kB", "MB", "GB", "TB"):
        if size < 1000:
            break
        size, unit = size / 1000, larger
    return f"{size:.3g} {unit}" if size < 1000 else f"{size:.0f} {unit}"


def _not_bytes(text: str) -> int:
    raise ConfigError(f"INJERTO_CACHE_BUDGET must be a number of bytes such as '20GB' but got {text!r}")


@contextmanager
def _space_errors(entry: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in NO_SPACE:
            raise ResourceError(
                f"no space left for {entry.name} in {entry.parent} ({error.strerror}); nothing half-written stays; "
                "free some disk, or set INJERTO_CACHE to a folder on a larger one"
            ) from None
        if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR}:
            raise ResourceError(f"cannot write to {entry.parent} ({error.strerror}); set INJERTO_CACHE to a folder that you own") from None
        raise
