"""Keys, the names of files under a `Root`, such as ``trials/00003/account.json``: their check, and `StoredFile`, an entry of a listing."""

from typing import NamedTuple

from trainables.errors import StorageError


class StoredFile(NamedTuple):
    """A file or an object in a listing of a root: its key, its size in bytes, and its time of writing, in ns since 1970 (0: unknown)."""

    key: str
    size: int
    written: int


def is_key(text: str) -> bool:
    """Return whether a text can be a key: names joined by '/', none of them empty, '.' or '..', without backslash and NUL.

    Such a key cannot lead out of the root.
    """
    return not any(part in ("", ".", "..") for part in text.split("/")) and "\\" not in text and "\0" not in text


def check_key(key: str) -> str:
    """Return `key` itself. Raises ``StorageError`` if it is no key, see `is_key`."""
    if not is_key(key):
        raise StorageError(f"{key!r} cannot be a key: it must be names joined by '/', without '.' or '..' among them")
    return key
