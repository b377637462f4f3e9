"""A bucket's folder of images copied to this machine's disk; each call fetches only what is new or changed."""

import os
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from pathlib import Path
from urllib.parse import urlsplit

from trainables.data.samples import listed
from trainables.errors import DataError
from trainables.storage.atomic_write import is_temporary, temporary_path
from trainables.storage.cache import cache_root, locked
from trainables.storage.disk_space import require_space
from trainables.storage.keys import StoredFile, is_key
from trainables.storage.locations import check_url, is_url, join, split_location
from trainables.storage.root import RETRY_PAUSES, Root
from trainables.storage.secrets import redact
from trainables.storage.storage_errors import storage_error
from trainables.thread_map import OnProgress, remote_threads, thread_map


@dataclass(frozen=True)
class BucketCopy:
    """A copy of a folder in a bucket, and the path in it that the user asked for: the folder, or one table in it."""

    url: str  # of the folder
    folder: Path  # its copy
    path: Path  # the folder or the table

    def inside(self, image_folder: str | None) -> str | None:
        """Return the copy of a folder that is named relative to this one; raises ``DataError`` for a folder outside of it."""
        if image_folder is None:
            return None
        path = Path(os.path.normpath(self.folder / image_folder))
        if is_url(image_folder) or not path.is_relative_to(self.folder):
            raise DataError(
                f"data.image_folder {redact(image_folder)!r} is not inside {redact(self.url)}; name it relative to that folder, "
                "or put the table into a folder that holds the images too"
            )
        return str(path)

    def with_bucket_names(self, text: str) -> str:
        """Return a message in which the bucket's URL replaces the copy's folder, which the user does not know."""
        return text.replace(str(self.folder), redact(self.url))


def copy_bucket(url: str, on_progress: OnProgress | None = None) -> BucketCopy:
    """Copy what is new or changed below a bucket's URL to this machine's cache, remove from the copy what is gone, and return the copy.

    The URL of an object, a table, stands for the folder around it. Raises ``StorageError`` where the bucket cannot be read,
    ``DataError`` where it is empty or holds what cannot be files in a folder, and ``ResourceError`` where it does not fit the disk.
    """
    path, mark, query = check_url(url, "data source").partition("?")
    url, table = path.rstrip("/") + mark + query, ""
    if urlsplit(url).path:
        parent, name = split_location(url)
        if Root(parent).size(name) is not None:
            url, table = parent, name
    folder = cache_root() / "mirrors" / blake2b(url.encode(), digest_size=8).hexdigest()
    root = Root(url)  # without retries, so that a mistyped URL is reported at once
    with locked(folder):
        wanted, here = root.files(), set(Root(folder).files())
        _check_objects(root, wanted)
        missing = [file for file in wanted if file not in here]
        _clean(folder, {file.key for file in here} - {file.key for file in wanted})
        size, what = sum(file.size for file in missing), f"{len(missing):,} files of {root}"
        require_space(size, folder, None, what, "name a smaller part of the bucket")
        fetch = partial(_fetch, Root(url, RETRY_PAUSES), folder)
        for _ in thread_map(fetch, missing, on_progress, "fetching", remote_threads()):
            pass
    return BucketCopy(url, folder, folder / table)


def _check_objects(root: Root, files: list[StoredFile]) -> None:
    """Raise ``DataError`` unless there are objects, and all can be files in a folder."""
    if not files:
        raise DataError(f"there is nothing at {root}; check the name, which begins below the bucket and has no leading '/'")
    keys = {file.key for file in files}
    if strange := [key for key in sorted(keys) if not is_key(key)]:
        raise DataError(f"{root} holds objects that cannot be files in a folder: {listed(map(repr, strange))}; rename or remove them")
    folders = {key.rpartition("/")[0] for key in keys}
    above = {str(parent) for folder in folders for parent in (Path(folder), *Path(folder).parents)}
    if both := sorted(keys & above):
        raise DataError(f"{root} holds objects that are also folders of other objects: {listed(map(repr, both))}; rename or remove them")


def _clean(folder: Path, gone: set[str]) -> None:
    """Remove from a copy the files of some keys, the temporary files of a killed process, and empty folders."""
    for key in gone:
        (folder / key).unlink()
    for path, _, names in os.walk(folder, topdown=False):
        for name in filter(is_temporary, names):
            Path(path, name).unlink()
        with suppress(OSError):  # the folder is not empty
            os.rmdir(path)


def _fetch(root: Root, folder: Path, file: StoredFile) -> None:
    """Copy one object. The copy gets the object's time, by which the next call recognises it, before it gets its name."""
    path = folder / file.key
    temporary = temporary_path(folder / "object")  # a name of its own, because the copy's name may have no room for more letters
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not root.fetch(file.key, temporary) or temporary.stat().st_size != file.size:
            raise DataError(f"{join(str(root), file.key)} has changed while it was fetched; start again when nothing writes there")
        os.utime(temporary, ns=(file.written, file.written))
        temporary.replace(path)
    except OSError as error:
        raise storage_error(error, "keep a copy of", join(str(root), file.key)) from None
    finally:
        temporary.unlink(missing_ok=True)
