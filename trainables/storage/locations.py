"""Places where states and artifacts are kept: a folder, or a bucket named by a URL. Light to import: pyarrow comes with a URL only.

A location is text: a folder's path, or ``s3://bucket/prefix?endpoint_override=http://host:9000&region=us-east-1``. Google's (``gs``) and
Azure's (``abfs``) buckets are taken as well. Credentials come from the environment, never from the location: locations are recorded.
"""

import errno
import os
import re
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cached_property, lru_cache
from io import BytesIO
from pathlib import Path
from stat import S_ISREG
from typing import Any, BinaryIO, NamedTuple, TypeVar
from urllib.parse import unquote, urlsplit

from trainables.errors import InjertoError, ResourceError, StorageError

Result = TypeVar("Result")
SCHEMES = ("s3", "gs", "gcs", "abfs", "abfss")
PERSISTENT = (1.0, 4.0, 15.0)
"""Pauses in seconds before another try, for those who would rather wait than fail; the S3 client's own three quick tries come first."""
PIECE = 1 << 26  # bytes asked for at once: an image comes in one request, what fills a memory in several
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")
_SECRET = re.compile(
    r"(?:(?<=//)|(?<=%2F%2F))[^?#\s]*(?::|%3A)[^?#\s]*(?:@|%40)|(?<==)(?<=(?:key|ret|ken|ord|sig)=)[^&#\s]+", re.IGNORECASE
)
_FULL_BUCKET = re.compile("StorageFull|QuotaExceeded|InsufficientStorage|HTTP status 507")
_TRANSIENT = re.compile("NETWORK_CONNECTION|INTERNAL_FAILURE|SERVICE_UNAVAILABLE|SLOW_DOWN|THROTTLING|REQUEST_TIMEOUT")
_REFUSALS = {
    "NO_SUCH_BUCKET": ("there is no such bucket", "make it first, or name another"),
    "ACCESS_DENIED|INVALID_ACCESS_KEY|INVALID_CLIENT_TOKEN|SIGNATURE|AUTHENTICATION|EXPIRED": (
        "the credentials are refused",
        "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, to ones that may list, read and write there",
    ),
    _TRANSIENT.pattern: ("the server does not answer as it should", "look whether it runs, and at endpoint_override and region"),
}
"""What a bucket's server says → what that means, and what to do."""


def is_url(location: str | Path) -> bool:
    """Say whether a location is a URL and not a folder."""
    return _URL.match(str(location)) is not None


def shown(text: str | Path) -> str:
    """Return a text without the passwords and keys of the URLs in it."""
    return _SECRET.sub("***", str(text))


def check_url(location: str, what: str = "root") -> str:
    """Return a URL that can be a root. Raises ``StorageError`` for one of another kind, or one that holds a password or a key."""
    if not re.match(rf"({'|'.join(SCHEMES)})://[^/?#]", location):
        raise StorageError(f"{shown(location)!r} cannot be a {what}; name a folder, or a bucket such as s3://bucket/prefix")
    if shown(location) != location:
        raise StorageError(
            f"the {what} {shown(location)} holds a password or a key, which would be recorded with the study; leave it out and set "
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, in the environment"
        )
    return location


def join(location: str | Path, key: str) -> str:
    """Return the location of what has a key in another location."""
    if not is_url(location):
        return str(Path(location) / key)
    path, mark, query = str(location).partition("?")
    return f"{path.rstrip('/')}/{key}{mark}{query}"


def split(location: str | Path) -> tuple[str, str]:
    """Return the location around a location, and the key in it."""
    if not is_url(location):
        return str(Path(location).parent), Path(location).name
    path, mark, query = str(location).partition("?")
    around, _, key = path.rpartition("/")
    return around + mark + query, key


class File(NamedTuple):
    """Something at a key: how many bytes, and when it was written, in nanoseconds since the epoch."""

    key: str
    size: int
    written: int


class Root:
    """What is in one location, by keys such as ``trials/00003/last.pt``; a key never leads out of it.

    Every method raises ``ResourceError`` where no space is left, and ``StorageError`` where the place does not answer or refuses.
    """

    def __init__(self, location: str | Path, pauses: tuple[float, ...] = ()) -> None:
        self.location, self.pauses = str(location), pauses
        self._place: _Folder | _Bucket = _Bucket(self.location, pauses) if is_url(location) else _Folder(Path(location))

    def __str__(self) -> str:
        return shown(self.location)

    def child(self, key: str) -> "Root":
        """Return the place of a key as a root of its own."""
        return Root(join(self.location, _checked(key)), self.pauses)

    def names(self) -> list[str]:
        """Return the first parts of the keys here."""
        with _explained("list", self.location):
            return sorted(self._place.names())

    def files(self) -> list[File]:
        """Return all that is here at any depth, in no order; of a bucket also what cannot be a key, see `is_key`."""
        with _explained("list", self.location):
            return self._place.files()

    def fetch(self, key: str, path: Path) -> bool:
        """Copy what is at a key to a file on this machine, piece by piece; say whether there was anything."""
        with self._explained("read", key) as checked:
            return self._place.fetch(checked, path)

    def size(self, key: str) -> int | None:
        """Return how many bytes a key holds, None where there is nothing."""
        with self._explained("look at", key) as checked:
            return self._place.size(checked)

    def exists(self, key: str) -> bool:
        """Say whether there is something at a key."""
        return self.size(key) is not None

    def opened(self, key: str) -> BinaryIO | None:
        """Return what is at a key as a file to read and close, None where there is nothing."""
        with self._explained("read", key) as checked:
            return self._place.opened(checked)

    def read(self, key: str) -> bytes | None:
        """Return what is at a key, None where there is nothing."""
        file = self.opened(key)
        if file is None:
            return None
        with self._explained("read", key), file:
            return file.read()

    @contextmanager
    def writing(self, key: str) -> Iterator[BinaryIO]:
        """Give a file to write; if the block succeeds all of it is safe under the key, and if it does not nothing has changed."""
        with self._explained("write", key) as checked, self._place.writing(checked) as file:
            yield file

    def write(self, key: str, data: bytes) -> None:
        """Put bytes under a key, whole or not at all."""
        with self.writing(key) as file:
            file.write(data)

    def remove(self, key: str) -> None:
        """Remove what is at a key; it is fine if there is nothing."""
        with self._explained("remove", key) as checked:
            self._place.remove(checked)

    @contextmanager
    def _explained(self, doing: str, key: str) -> Iterator[str]:
        with _explained(doing, join(self.location, key)):
            yield _checked(key)


def size_of(location: str | Path) -> int | None:
    """Return how many bytes a location holds, None where there is nothing. Raises as `Root` does."""
    around, key = split(location)
    return Root(around).size(key)


def discard(location: str | Path) -> None:
    """Remove what is at a location; it is fine if there is nothing. Raises as `Root` does."""
    around, key = split(location)
    Root(around).remove(key)


def probe(location: str | Path, *, fresh: bool = False) -> None:
    """Write a small object, read it back and remove it.

    Raises ``StorageError`` if that fails, or if the place must be `fresh` and holds something; ``ResourceError`` if it is full.
    """
    root, key, token = Root(check_url(str(location)) if is_url(location) else location), f".probe-{uuid.uuid4().hex}", os.urandom(16)
    if fresh and root.names():
        raise StorageError(f"{root} is not empty; choose another --name or --root")
    root.write(key, token)
    found = root.read(key)
    root.remove(key)
    if found != token:
        raise StorageError(f"{root} does not give back what is written to it; name another root")


class _Folder:
    """A root on disk."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def names(self) -> list[str]:
        with _absent_is_none():
            return os.listdir(self.path)
        return []

    def files(self) -> list[File]:
        with _absent_is_none():
            return [_file(self.path, entry) for entry in _walk(self.path)]
        return []

    def fetch(self, key: str, path: Path) -> bool:
        with _absent_is_none():
            shutil.copyfile(self.path / key, path)
            return True
        return False

    def size(self, key: str) -> int | None:
        with _absent_is_none():
            found = (self.path / key).stat()
            return found.st_size if S_ISREG(found.st_mode) else None
        return None

    def opened(self, key: str) -> BinaryIO | None:
        with _absent_is_none():
            return (self.path / key).open("rb")
        return None

    @contextmanager
    def writing(self, key: str) -> Iterator[BinaryIO]:
        path = self.path / key
        partial = _partial(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with partial.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
            _sync_folder(path.parent)
        finally:
            with suppress(OSError):
                partial.unlink(missing_ok=True)

    def remove(self, key: str) -> None:
        for path in (self.path / key, _partial(self.path / key)):
            with _absent_is_none():
                path.unlink()


class _Bucket:
    """A root in a bucket: an object appears when all of it has arrived."""

    def __init__(self, url: str, pauses: tuple[float, ...]) -> None:
        self.url, self.pauses = url, pauses

    @cached_property
    def _opened(self) -> tuple[Any, str]:
        parts = urlsplit(self.url)
        filesystem, bucket = _filesystem(parts._replace(path="").geturl())
        return filesystem, f"{bucket}/{unquote(parts.path).strip('/')}".rstrip("/")

    def names(self) -> list[str]:
        from pyarrow.fs import FileSelector

        filesystem, path = self._opened
        found = self._persistently(lambda: filesystem.get_file_info(FileSelector(path, allow_not_found=True)))
        return [info.base_name for info in found]

    def files(self) -> list[File]:
        from pyarrow.fs import FileSelector

        filesystem, path = self._opened
        with _absent_is_none():
            found = self._persistently(lambda: filesystem.get_file_info(FileSelector(path, recursive=True)))
            return [File(info.path[len(path) + 1 :], info.size, info.mtime_ns or 0) for info in found if info.is_file]
        return []

    def fetch(self, key: str, path: Path) -> bool:
        filesystem, place = self._opened

        def copy() -> bool:
            with filesystem.open_input_file(f"{place}/{key}") as source, path.open("wb") as target:
                shutil.copyfileobj(source, target, PIECE)
            return True

        with _absent_is_none():
            return self._persistently(copy)
        return False

    def size(self, key: str) -> int | None:
        filesystem, path = self._opened
        info = self._persistently(lambda: filesystem.get_file_info(f"{path}/{key}"))
        return int(info.size) if info.is_file else None

    def opened(self, key: str) -> BinaryIO | None:
        filesystem, path = self._opened

        def read() -> bytes:
            with filesystem.open_input_file(f"{path}/{key}") as file:
                return bytes(file.read_at(file.size(), 0))  # one request: a stream asks for parts, which another writer may mix

        with _absent_is_none():
            return BytesIO(self._persistently(read))
        return None

    @contextmanager
    def writing(self, key: str) -> Iterator[BinaryIO]:
        filesystem, path = self._opened
        buffer = BytesIO()
        yield buffer

        def write() -> None:
            with filesystem.open_output_stream(f"{path}/{key}", compression=None) as stream:  # else a key that ends in .gz is zipped
                stream.write(buffer.getbuffer())

        self._persistently(write)

    def remove(self, key: str) -> None:
        filesystem, path = self._opened
        with _absent_is_none():
            self._persistently(lambda: filesystem.delete_file(f"{path}/{key}"))

    def _persistently(self, operation: Callable[[], Result]) -> Result:
        for pause in self.pauses:
            try:
                return operation()
            except OSError as error:
                if not _TRANSIENT.search(str(error)):
                    raise
            time.sleep(pause)
        return operation()


@lru_cache(maxsize=16)
def _filesystem(url: str) -> tuple[Any, str]:
    """Return pyarrow's filesystem of a bucket's URL, and the bucket's path in it; to make one takes 10 ms."""
    from pyarrow.fs import FileSystem

    try:
        return FileSystem.from_uri(url)  # type: ignore[no-any-return]
    except (ValueError, NotImplementedError) as error:
        raise StorageError(f"{shown(url)} cannot be used: {shown(str(error))}") from None


def is_key(text: str) -> bool:
    """Say whether a text can be a key: names joined by '/', none of which leads elsewhere."""
    return not any(part in ("", ".", "..") for part in text.split("/")) and "\\" not in text and "\0" not in text


def _checked(key: str) -> str:
    if not is_key(key):
        raise StorageError(f"{key!r} cannot be a key: it must be names joined by '/', without '.' or '..' among them")
    return key


def _walk(folder: Path | str) -> Iterator[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _walk(entry.path)
            else:
                yield entry


def _file(folder: Path, entry: os.DirEntry[str]) -> File:
    found = entry.stat()
    return File(entry.path[len(str(folder)) + 1 :], found.st_size, found.st_mtime_ns)


def _partial(path: Path) -> Path:
    return path.with_name(path.name + ".partial")


def _sync_folder(path: Path) -> None:
    """Make a new name in a folder safe from a loss of power. Linux man page fsync(2)."""
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _absent_is_none() -> suppress:
    return suppress(FileNotFoundError, NotADirectoryError, IsADirectoryError)


@contextmanager
def _explained(doing: str, location: str) -> Iterator[None]:
    """Turn what a disk or a server says into an error of ours; a library's own error is looked through for the disk's."""
    try:
        yield
    except InjertoError:
        raise
    except (OSError, RuntimeError) as error:
        cause = error if isinstance(error, OSError) else error.__context__
        if not isinstance(cause, OSError):
            raise
        raise explanation(cause, doing, location) from error


def explanation(error: OSError, doing: str, location: str) -> InjertoError:
    """Return the error for a user, of something that failed while `doing` (write, read, remove) something at a location."""
    text, place = str(error), f"cannot {doing} {shown(location)}"
    if error.errno in FULL or _FULL_BUCKET.search(text):
        return ResourceError(f"{place}: {error.strerror or 'no room in the bucket'}; is the disk full?")
    for pattern, (why, what_to_do) in _REFUSALS.items():
        if re.search(pattern, text):
            return StorageError(f"{place}: {why}; {what_to_do}")
    why = error.strerror if not is_url(location) and error.strerror else shown(text.partition(" (Request ID")[0][:300])
    return StorageError(f"{place}: {why}; look whether it may be written and read, or name another root or output")
