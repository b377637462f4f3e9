"""`Bucket`, which reads and writes the objects of a `Root` in a bucket. The first request imports pyarrow, which talks to the server."""

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property, lru_cache
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, TypeVar
from urllib.parse import unquote, urlsplit

from trainables.errors import StorageError
from trainables.storage.keys import StoredFile
from trainables.storage.secrets import redact
from trainables.storage.storage_errors import TRANSIENT, absent_is_none

Result = TypeVar("Result")
PIECE = 1 << 26  # bytes of a request: an image is fetched with one request, a file larger than memory with many


class Bucket:
    """The objects below a bucket's URL, with the same methods as `Folder`. A new object is visible once it is complete.

    After a transient error a request is sent again, once after each of `pauses` (seconds); the S3 client itself retries three times.
    Every method raises ``OSError`` if a request fails, and ``StorageError`` for a URL that pyarrow does not accept.
    """

    def __init__(self, url: str, pauses: tuple[float, ...]) -> None:
        self.url, self.pauses = url, pauses

    @cached_property
    def _connection(self) -> tuple[Any, str]:
        """A pyarrow ``FileSystem``, and the path of this bucket's URL in it, without a '/' at the end."""
        parts = urlsplit(self.url)
        filesystem, bucket = _filesystem(parts._replace(path="").geturl())
        return filesystem, f"{bucket}/{unquote(parts.path).strip('/')}".rstrip("/")

    def names(self) -> list[str]:
        """Return the names directly below the URL: of objects, and the first parts of longer keys. Empty if there is nothing."""
        from pyarrow.fs import FileSelector

        filesystem, path = self._connection
        infos = self._retry(lambda: filesystem.get_file_info(FileSelector(path, allow_not_found=True)))
        return [info.base_name for info in infos]

    def files(self) -> list[StoredFile]:
        """Return all objects at any depth. Other programs may have written objects whose names are not keys, see `is_key`."""
        from pyarrow.fs import FileSelector

        filesystem, path = self._connection
        with absent_is_none():
            infos = self._retry(lambda: filesystem.get_file_info(FileSelector(path, recursive=True)))
            return [StoredFile(info.path[len(path) + 1 :], info.size, info.mtime_ns or 0) for info in infos if info.is_file]
        return []

    def fetch(self, key: str, path: Path) -> bool:
        """Copy an object to the file `path`, `PIECE` bytes a request. Return whether there is such an object."""
        filesystem, prefix = self._connection

        def copy() -> bool:
            with filesystem.open_input_file(f"{prefix}/{key}") as source, path.open("wb") as target:
                shutil.copyfileobj(source, target, PIECE)
            return True

        with absent_is_none():
            return self._retry(copy)
        return False

    def size(self, key: str) -> int | None:
        """Return an object's size in bytes; None if there is no such object."""
        filesystem, path = self._connection
        info = self._retry(lambda: filesystem.get_file_info(f"{path}/{key}"))
        return int(info.size) if info.is_file else None

    def open(self, key: str) -> BinaryIO | None:
        """Return an object, read into memory, as a binary file; None if there is no such object."""
        filesystem, path = self._connection

        def read() -> bytes:
            with filesystem.open_input_file(f"{path}/{key}") as file:
                return bytes(file.read_at(file.size(), 0))  # one request: between two, another writer may replace the object

        with absent_is_none():
            return BytesIO(self._retry(read))
        return None

    @contextmanager
    def writing(self, key: str) -> Iterator[BinaryIO]:
        """Yield a buffer in memory to write to. It is sent as the object of the key if the block succeeds."""
        filesystem, path = self._connection
        buffer = BytesIO()
        yield buffer

        def write() -> None:
            # Without compression=None pyarrow would compress an object whose key ends in .gz.
            with filesystem.open_output_stream(f"{path}/{key}", compression=None) as stream:
                stream.write(buffer.getbuffer())

        self._retry(write)

    def remove(self, key: str) -> None:
        """Remove an object; do nothing if there is no such object."""
        filesystem, path = self._connection
        with absent_is_none():
            self._retry(lambda: filesystem.delete_file(f"{path}/{key}"))

    def remove_abandoned(self) -> None:
        """Do nothing: a bucket holds no temporary objects."""

    def _retry(self, operation: Callable[[], Result]) -> Result:
        for pause in self.pauses:
            try:
                return operation()
            except OSError as error:
                if not TRANSIENT.search(str(error)):
                    raise
            time.sleep(pause)
        return operation()


@lru_cache(maxsize=16)
def _filesystem(url: str) -> tuple[Any, str]:
    """Return a pyarrow ``FileSystem`` for a bucket's URL, and the bucket's path in it. Raises ``StorageError`` for a URL it rejects.

    Cached, because making one takes 10 ms.
    """
    from pyarrow.fs import FileSystem

    try:
        return FileSystem.from_uri(url)  # type: ignore[no-any-return]
    except (ValueError, NotImplementedError) as error:
        raise StorageError(f"{redact(url)} cannot be used: {redact(str(error))}") from None
