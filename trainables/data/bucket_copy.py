"""A bucket's folder of images on this machine's own disk, brought up to date whenever it is read."""

import os
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from pathlib import Path
from threading import get_ident
from urllib.parse import urlsplit

from trainables.data.samples import listed
from trainables.errors import DataError
from trainables.storage.cache import cache_root, locked, require_space
from trainables.storage.locations import PERSISTENT, File, Root, check_url, explanation, is_key, is_url, join, shown, split
from trainables.thread_map import REMOTE, Progress, in_parallel, processors


@dataclass(frozen=True)
class BucketCopy:
    """A copy of what lies below a URL, and the part of it that was asked for: all of it, or one table in it."""

    url: str  # of the folder
    folder: Path  # its copy
    path: Path  # the folder or the table

    def inside(self, image_folder: str | None) -> str | None:
        """Return the copy of a folder that is named relative to the table; raises ``DataError`` for one that lies elsewhere."""
        if image_folder is None:
            return None
        path = Path(os.path.normpath(self.folder / image_folder))
        if is_url(image_folder) or not path.is_relative_to(self.folder):
            raise DataError(
                f"data.image_folder {shown(image_folder)!r} is not inside {shown(self.url)}; name it relative to that folder, "
                "or put the table into a folder that holds the images too"
            )
        return str(path)

    def in_words(self, text: str) -> str:
        """Return a text that names places in the bucket and not in its copy, which no user knows."""
        return text.replace(str(self.folder), shown(self.url))


def copy_bucket(url: str, progress: Progress | None = None) -> BucketCopy:
    """Copy what is new or changed below a bucket's URL to this machine's cache, remove there what is gone, and return the copy.

    A URL that names an object stands for the folder around it, whose table it is. Raises ``StorageError`` where the bucket cannot be
    read, ``DataError`` where it holds nothing or what cannot be files in a folder, ``ResourceError`` where it does not fit the disk.
    """
    path, mark, query = check_url(url, "data source").partition("?")
    url, table = path.rstrip("/") + mark + query, ""
    if urlsplit(url).path:
        around, name = split(url)
        if Root(around).size(name) is not None:
            url, table = around, name
    folder = cache_root() / "mirrors" / blake2b(url.encode(), digest_size=8).hexdigest()
    root, patient = Root(url), Root(url, PERSISTENT)  # who has mistyped a URL would rather know at once
    with locked(folder):
        wanted, here = root.files(), set(Root(folder).files())
        _refuse_strange(root, wanted)
        missing = [file for file in wanted if file not in here]
        _remove(folder, {file.key for file in here} - {file.key for file in wanted})
        size, words = sum(file.size for file in missing), f"{len(missing):,} files of {root}"
        require_space(size, folder, None, words, "name a smaller part of the bucket")
        for _ in in_parallel(partial(_fetch, patient, folder), missing, progress, "fetching", max(REMOTE, processors())):
            pass
    return BucketCopy(url, folder, folder / table)


def _refuse_strange(root: Root, files: list[File]) -> None:
    if not files:
        raise DataError(f"there is nothing at {root}; look at the name, which begins below the bucket and has no leading '/'")
    keys = {file.key for file in files}
    if strange := [key for key in sorted(keys) if not is_key(key)]:
        raise DataError(f"{root} holds objects that cannot be files in a folder: {listed(map(repr, strange))}; rename or remove them")
    folders = {key.rpartition("/")[0] for key in keys}
    above = {str(place) for folder in folders for place in (Path(folder), *Path(folder).parents)}
    if both := sorted(keys & above):
        raise DataError(f"{root} holds objects in which other objects lie: {listed(map(repr, both))}; rename or remove them")


def _remove(folder: Path, keys: set[str]) -> None:
    for key in keys:
        (folder / key).unlink()
    for place, _, _ in os.walk(folder, topdown=False):
        with suppress(OSError):  # it holds something
            os.rmdir(place)


def _fetch(root: Root, folder: Path, file: File) -> None:
    """Copy one object; it has its time, by which the next start knows it, only when all of it is there."""
    path, partial_path = folder / file.key, folder / f".{get_ident()}.partial"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not root.fetch(file.key, partial_path) or partial_path.stat().st_size != file.size:
            raise DataError(f"{join(str(root), file.key)} has changed while it was fetched; start again when nothing writes there")
        os.utime(partial_path, ns=(file.written, file.written))
        partial_path.replace(path)
    except OSError as error:
        raise explanation(error, "keep a copy of", join(str(root), file.key)) from None
    finally:
        partial_path.unlink(missing_ok=True)
