"""A root: a folder or a bucket, used in the same way."""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from trainables.errors import StorageError
from trainables.storage.bucket import Bucket
from trainables.storage.folder import Folder
from trainables.storage.keys import StoredFile, check_key
from trainables.storage.locations import check_url, is_url, join, split_location
from trainables.storage.secrets import redact
from trainables.storage.storage_errors import translated_errors

RETRY_PAUSES = (1.0, 4.0, 15.0)
"""Pauses in seconds between further tries, for callers that prefer to wait for a bucket rather than to fail."""


class Root:
    """The files or objects below one location, by keys such as ``trials/00003/last.pt``.

    Every method raises ``ResourceError`` where no space is left, and ``StorageError`` where the disk or the server fails or refuses,
    or where a key would lead out of the root.
    """

    def __init__(self, location: str | Path, pauses: tuple[float, ...] = ()) -> None:
        self.location, self.pauses = str(location), pauses
        self._storage: Folder | Bucket = Bucket(self.location, pauses) if is_url(location) else Folder(Path(location))

    def __str__(self) -> str:
        return redact(self.location)

    def child(self, key: str) -> "Root":
        """Return the location of a key as a root of its own."""
        return Root(join(self.location, check_key(key)), self.pauses)

    def names(self) -> list[str]:
        """Return the first parts of the keys here, sorted."""
        with translated_errors("list", self.location):
            return sorted(self._storage.names())

    def files(self) -> list[StoredFile]:
        """Return all files at any depth, in no order. A bucket may hold objects whose names are not keys, see `is_key`."""
        with translated_errors("list", self.location):
            return self._storage.files()

    def fetch(self, key: str, path: Path) -> bool:
        """Copy the content of a key to a file on this machine, piece by piece; return False where there is none."""
        with self._checked("read", key):
            return self._storage.fetch(key, path)

    def size(self, key: str) -> int | None:
        """Return the size of a key's content in bytes; None where there is none."""
        with self._checked("look at", key):
            return self._storage.size(key)

    def exists(self, key: str) -> bool:
        """Return whether a key has content."""
        return self.size(key) is not None

    def open(self, key: str) -> BinaryIO | None:
        """Return the content of a key as a file to read and close; None where there is none."""
        with self._checked("read", key):
            return self._storage.open(key)

    def read(self, key: str) -> bytes | None:
        """Return the content of a key; None where there is none."""
        file = self.open(key)
        if file is None:
            return None
        with self._checked("read", key), file:
            return file.read()

    @contextmanager
    def writing(self, key: str) -> Iterator[BinaryIO]:
        """Give a file to write to. If the block succeeds, its whole content is safe under the key; else the key keeps what it had."""
        with self._checked("write", key), self._storage.writing(key) as file:
            yield file

    def write(self, key: str, data: bytes) -> None:
        """Put bytes under a key, whole or not at all."""
        with self.writing(key) as file:
            file.write(data)

    def remove(self, key: str) -> None:
        """Remove the content of a key; do nothing where there is none."""
        with self._checked("remove", key):
            self._storage.remove(key)

    @contextmanager
    def _checked(self, action: str, key: str) -> Iterator[None]:
        with translated_errors(action, join(self.location, key)):
            check_key(key)
            yield


def root_and_key(location: str | Path, pauses: tuple[float, ...] = ()) -> tuple[Root, str]:
    """Return the root above a location, and the location's key in it."""
    parent, key = split_location(location)
    return Root(parent, pauses), key


def size_of(location: str | Path) -> int | None:
    """Return the size in bytes of the file at a location; None where there is none. Raises as `Root` does."""
    root, key = root_and_key(location)
    return root.size(key)


def discard(location: str | Path) -> None:
    """Remove the file at a location; do nothing where there is none. Raises as `Root` does."""
    root, key = root_and_key(location)
    root.remove(key)


def probe(location: str | Path, *, fresh: bool = False) -> None:
    """Write a small object, read it back and remove it.

    Raises ``StorageError`` if that fails, or if the location must be `fresh` and holds something; ``ResourceError`` if it is full.
    """
    root, key, token = Root(check_url(str(location)) if is_url(location) else location), f".probe-{uuid.uuid4().hex}", os.urandom(16)
    if fresh and root.names():
        raise StorageError(f"{root} is not empty; choose another --name or --root")
    root.write(key, token)
    data = root.read(key)
    root.remove(key)
    if data != token:
        raise StorageError(f"{root} does not give back what is written to it; name another root")
