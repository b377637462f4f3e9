"""`copy_bucket`, which copies a bucket's folder of images to this machine's disk and fetches only what is new or changed."""

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
    """The copy, on this machine, of a folder in a bucket."""

    url: str  # of the folder in the bucket
    folder: Path  # its copy
    path: Path  # what the user named, in the copy: the folder, or one table in it

    def inside(self, image_folder: str | None) -> str | None:
        """Return the path in the copy of `data.image_folder`, which is relative to `folder`; None for None.

        Raises ``DataError`` for a URL and for a path that leads out of the copy.
        """
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
        """Return a message with the bucket's URL, without secrets, in place of the copy's path, which the user does not know."""
        return text.replace(str(self.folder), redact(self.url))


def copy_bucket(url: str, on_progress: OnProgress | None = None) -> BucketCopy:
    """Copy what is new or changed below a bucket's URL to this machine's cache, remove from the copy what is gone, and return the copy.

    For the URL of one object (a table) the folder that holds it is copied. Raises ``StorageError`` if the bucket cannot be read,
    ``DataError`` if it is empty, holds objects that cannot be files in a folder, or changes during the copy, and ``ResourceError`` if
    the copy does not fit the disk.
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
    """Raise ``DataError`` if there are no objects, if a name is no key, or if one object's name is also a folder of other objects."""
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
    """Remove from a copy the files whose keys are in `gone`, the temporary files of killed processes, and empty folders."""
    for key in gone:
        (folder / key).unlink()
    for path, _, names in os.walk(folder, topdown=False):
        for name in filter(is_temporary, names):
            Path(path, name).unlink()
        with suppress(OSError):  # the folder is not empty
            os.rmdir(path)


def _fetch(root: Root, folder: Path, file: StoredFile) -> None:
    """Copy one object from the bucket into `folder`. The copy gets the object's time of writing: the next call compares it.

    Raises ``DataError`` if the object is gone or has another size than in the listing, and as `Root` does.
    """
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
