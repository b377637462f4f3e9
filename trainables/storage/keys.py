"""Keys: what is stored under a root has a name such as ``trials/00003/last.pt``, which never leads out of the root."""

from typing import NamedTuple

from trainables.errors import StorageError


class StoredFile(NamedTuple):
    """A file or an object under a root: its key, its size in bytes, and when it was written, in nanoseconds since the epoch."""

    key: str
    size: int
    written: int


def is_key(text: str) -> bool:
    """Return whether a text can be a key: names joined by '/', none of which leads elsewhere."""
    return not any(part in ("", ".", "..") for part in text.split("/")) and "\\" not in text and "\0" not in text


def check_key(key: str) -> str:
    """Return the key. Raises ``StorageError`` where it is not one."""
    if not is_key(key):
        raise StorageError(f"{key!r} cannot be a key: it must be names joined by '/', without '.' or '..' among them")
    return key
