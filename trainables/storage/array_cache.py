"""`ArrayCache`, arrays in files of this node's cache: limited in size, the least recently used are removed first, safe to delete."""

import os
import shutil
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from trainables.storage.atomic_write import NO_SPACE, atomic_write, is_temporary
from trainables.storage.byte_sizes import show_bytes

CHECKSUM_BYTES = 4
SHARE = 0.2
"""Of the disk that is free without the cache, which the arrays may take if no limit is given."""
NETWORK_DISKS = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "lustre", "fuse.sshfs", "fuse.s3fs", "fuse.gcsfuse"})


class ArrayCache:
    """Arrays by key, each a ``.npy`` file in `folder` with a checksum behind the array, which several processes of a node share.

    All files together take at most `limit` bytes, by default a fifth of the disk that would be free without them. A file that cannot be
    stored is no error: `write` warns once and returns False.
    """

    def __init__(self, folder: Path, limit: float | None = None) -> None:
        self._folder, self._limit = folder, limit
        self._stores = True

    def read(self, key: str, shape: tuple[int, ...], dtype: type[np.generic]) -> NDArray[Any] | None:
        """Return the array of a key as a read-only memory map; None if it is not here, or has another shape or dtype, or is damaged."""
        path = self._path(key)
        try:
            array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
            with path.open("rb") as file:
                file.seek(-CHECKSUM_BYTES, os.SEEK_END)
                if array.shape != shape or array.dtype != dtype or file.read() != _checksum(array):
                    return None
            os.utime(path)  # makes it the most recently used
        except (OSError, ValueError, EOFError):
            return None
        return array

    @contextmanager
    def claim(self, key: str, *, wait: bool) -> Iterator[bool]:
        """Yield whether this process may make the array of a key during the block: False if another one is making it now.

        With `wait`, wait until the other has ended, and yield True.
        """
        lock = FileLock(self._folder / f".{key}.lock", timeout=-1 if wait else 0)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            lock.acquire()
        except Timeout:
            yield False
            return
        except OSError:  # nothing can be written here, so nothing is shared
            yield True
            return
        try:
            yield True
        finally:
            Path(lock.lock_file).unlink(missing_ok=True)
            lock.release()

    def write(self, key: str, array: NDArray[Any]) -> bool:
        """Store an array under a key, and remove the least recently used ones that exceed the limit. Return whether it is stored."""
        if not self._stores:
            return False
        if self._limit is None and (kind := disk_kind(self._folder)) in NETWORK_DISKS:
            return self._give_up(f"{self._folder} is on a network disk ({kind}); set INJERTO_CACHE to a folder on a local disk")
        for attempt in range(2):
            try:
                if self._make_room(array.nbytes, everything=attempt > 0) < array.nbytes:
                    return self._give_up(f"{show_bytes(array.nbytes)} do not fit into the room of {self._folder}")
                with atomic_write(self._path(key)) as file:
                    np.lib.format.write_array_header_2_0(file, np.lib.format.header_data_from_array_1_0(array))
                    content = np.ascontiguousarray(array)
                    file.write(content.data)  # unlike `np.save`, it says why a write fails
                    file.write(_checksum(content))
                return True
            except OSError as error:
                if error.errno not in NO_SPACE or attempt:
                    return self._give_up(f"{self._folder} cannot be written ({error.strerror or error})")
        return False

    def _path(self, key: str) -> Path:
        return self._folder / f"{key}.npy"

    def _make_room(self, needed: int, *, everything: bool) -> int:
        """Remove the least recently used arrays until `needed` more bytes fit into the limit, or with `everything` all; return the limit.

        Removes none if `needed` exceeds the limit.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        files = []
        for entry in os.scandir(self._folder):
            with suppress(FileNotFoundError):
                if entry.name.endswith(".npy") or is_temporary(entry.name):
                    facts = entry.stat()
                    files.append((facts.st_mtime_ns, facts.st_size, entry.path))
        used = sum(size for _, size, _ in files)
        limit = int(SHARE * (shutil.disk_usage(self._folder).free + used) if self._limit is None else self._limit)
        for _, size, path in sorted(files):
            if needed > limit or (used + needed <= limit and not everything):
                break
            with suppress(OSError):
                os.unlink(path)
            used -= size
        return limit

    def _give_up(self, reason: str) -> bool:
        self._stores = False
        warnings.warn(f"activations are computed again in each trial, because {reason}", stacklevel=3)
        return False


def _checksum(array: NDArray[Any]) -> bytes:
    """Return the CRC-32 of an array's content: a loss of power can leave a file of the right length that was never filled."""
    return zlib.crc32(array.reshape(-1).view(np.uint8).data).to_bytes(CHECKSUM_BYTES, "little")


def disk_kind(folder: Path) -> str:
    """Return the type of the file system that holds a folder, such as ``ext4`` or ``nfs``; '' if it is not known."""
    parents = {str(path) for path in (folder, *folder.parents)}
    holding = [part for part in psutil.disk_partitions(all=True) if part.mountpoint in parents]
    return max(holding, key=lambda part: len(part.mountpoint)).fstype if holding else ""
