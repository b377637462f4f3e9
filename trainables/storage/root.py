"""`Root`, a folder or a bucket with the same methods for both, and functions for a single file at a location."""

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
"""The `pauses` of a `Root`, in seconds, for callers that prefer to wait for a bucket rather than to fail."""


class Root:
    """The files or objects below one location, a path or a bucket's URL, by keys such as ``trials/00003/account.json``.

    After a transient error a request to a bucket is repeated, once after each of `pauses` (seconds); folders ignore them.
    Every method raises ``ResourceError`` if no space is left, and ``StorageError`` if the disk or the server fails or refuses, or if a
    key would lead out of the root.
    """

    def __init__(self, location: str | Path, pauses: tuple[float, ...] = ()) -> None:
        self.location, self.pauses = str(location), pauses
        self._storage: Folder | Bucket = Bucket(self.location, pauses) if is_url(location) else Folder(Path(location))

    def __str__(self) -> str:
        return redact(self.location)

    def child(self, key: str) -> "Root":
        """Return a root whose location is that of a key here, a folder, with the same pauses."""
        return Root(join(self.location, check_key(key)), self.pauses)

    def names(self) -> list[str]:
        """Return the names directly below the location, sorted: of files, and of folders (the first parts of longer keys)."""
        with translated_errors("list", self.location):
            return sorted(self._storage.names())

    def files(self) -> list[StoredFile]:
        """Return all files at any depth, in no order. A bucket may hold objects whose names are not keys, see `is_key`."""
        with translated_errors("list", self.location):
            return self._storage.files()

    def fetch(self, key: str, path: Path) -> bool:
        """Copy the content of a key to `path` on this machine, without holding all of it in memory. Return whether the key has content."""
        with self._checked("read", key):
            return self._storage.fetch(key, path)

    def size(self, key: str) -> int | None:
        """Return the size of a key's content in bytes; None if it has no content."""
        with self._checked("look at", key):
            return self._storage.size(key)

    def exists(self, key: str) -> bool:
        """Return whether a key has content: whether there is such a file or object."""
        return self.size(key) is not None

    def open(self, key: str) -> BinaryIO | None:
        """Return the content of a key as a binary file, which the caller closes; None if it has no content."""
        with self._checked("read", key):
            return self._storage.open(key)

    def read(self, key: str) -> bytes | None:
        """Return the content of a key; None if it has no content."""
        file = self.open(key)
        if file is None:
            return None
        with self._checked("read", key), file:
            return file.read()

    @contextmanager
    def writing(self, key: str) -> Iterator[BinaryIO]:
        """Yield a binary file to write to. If the block succeeds, it replaces the content of the key; else the key is unchanged."""
        with self._checked("write", key), self._storage.writing(key) as file:
            yield file

    def write(self, key: str, data: bytes) -> None:
        """Replace the content of a key by `data`, whole or not at all."""
        with self.writing(key) as file:
            file.write(data)

    def remove(self, key: str) -> None:
        """Remove the content of a key; do nothing if it has no content."""
        with self._checked("remove", key):
            self._storage.remove(key)

    def remove_abandoned(self) -> None:
        """Remove what killed writers have left directly below the location. The caller knows that nobody writes there now."""
        with translated_errors("remove", self.location):
            self._storage.remove_abandoned()

    @contextmanager
    def _checked(self, action: str, key: str) -> Iterator[None]:
        with translated_errors(action, join(self.location, key)):
            check_key(key)
            yield


def root_and_key(location: str | Path, pauses: tuple[float, ...] = ()) -> tuple[Root, str]:
    """Return a root at the folder that holds the file of a location, and the file's key there. `pauses`: see `Root`."""
    parent, key = split_location(location)
    return Root(parent, pauses), key


def size_of(location: str | Path) -> int | None:
    """Return the size in bytes of the file at a location; None if there is no such file. Raises as `Root` does."""
    root, key = root_and_key(location)
    return root.size(key)


def discard(location: str | Path) -> None:
    """Remove the file at a location; do nothing if there is no such file. Raises as `Root` does."""
    root, key = root_and_key(location)
    root.remove(key)


def probe(location: str | Path, *, fresh: bool = False) -> None:
    """Check that a root can be used: write a small object there, read it back and remove it.

    Raises ``StorageError`` if that fails or, with `fresh`, if the location is not empty; ``ResourceError`` if no space is left.
    """
    root, key, token = Root(check_url(str(location)) if is_url(location) else location), f".probe-{uuid.uuid4().hex}", os.urandom(16)
    if fresh and root.names():
        raise StorageError(f"{root} is not empty; choose another --name or --root")
    root.write(key, token)
    data = root.read(key)
    root.remove(key)
    if data != token:
        raise StorageError(f"{root} does not give back what is written to it; name another root")
