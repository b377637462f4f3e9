"""Compares a file's SHA-256 with the digits in its name."""

import hashlib
from functools import lru_cache
from pathlib import Path

from trainables.errors import WeightsError


def check_named_hash(path: Path, remedy: str) -> None:
    """Raise ``WeightsError``, with what to do, if the name of a file has other digits than its SHA-256 begins with."""
    if not is_named_hash(sha256_of(path), path):
        raise WeightsError(f"{path} is damaged: its SHA-256 is not the one in its name; {remedy}")


def is_named_hash(sha256: str, path: Path) -> bool:
    """Return whether a SHA-256 begins with the digits in the file's name after the last hyphen, as in ``resnet18-f37072fd.pth``."""
    return sha256.startswith(path.stem.rpartition("-")[2])


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, 64 hexadecimal digits. A file that has not changed since the last call is not read again."""
    status = path.stat()
    return _sha256_of_version(path, status.st_ino, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=64)
def _sha256_of_version(path: Path, inode: int, size: int, changed: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
