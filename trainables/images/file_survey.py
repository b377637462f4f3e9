"""`survey_files`, which finds hashes, sizes in pixels and bits of a data set's image files, and why some cannot be read."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b, file_digest
from io import BufferedReader
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from trainables.errors import DataError
from trainables.images.decode import DECODER_VERSION, Unreadable, header, white_level
from trainables.storage.cache import cache_root, read_json, write_json
from trainables.thread_map import OnProgress, thread_map

ReadBytes = Callable[[Any], bytes]
"""Function that returns the bytes of an image file, given its path; raises ``OSError`` if it cannot."""


@dataclass(frozen=True)
class FileContents:
    """The hashes of N image files, and everything else that decides their decoded pixels."""

    hashes: tuple[str, ...]  # of each file's bytes, '' where it cannot be read
    lengths: npt.NDArray[np.int64]  # (N,) bytes, 0 where it cannot be read
    bits: int  # that the 16-bit images use, by the largest `white_level`; 8 where there are none
    problems: dict[int, str]  # index of a file that cannot be read -> reason

    @cached_property
    def key(self) -> str:
        """One hash of all files' hashes, in order; part of cache keys."""
        return content_key(*self.hashes)


@dataclass(frozen=True)
class FileSurvey(FileContents):
    """`FileContents`, and the sizes of the images, read from the headers before any image is decoded."""

    sizes: npt.NDArray[np.int64]  # (N, 2) upright width and height in pixels, 0 where unreadable
    deep: int = 0  # number of 16-bit images

    @property
    def median_side(self) -> int:
        """The median of the images' shorter sides, pixels; 0 where none is readable."""
        sides = self.sizes.min(axis=1)
        return int(np.median(sides[sides > 0])) if (sides > 0).any() else 0


def survey_files(paths: Sequence[Path], *, on_progress: OnProgress | None = None) -> FileSurvey:
    """Hash every file, read its header, and return the results; a file that cannot be read is listed in `problems`.

    The headers are cached on this node under the hash of all contents. Raises ``ResourceError`` if the cache cannot be written.
    """
    hashed = list(thread_map(_hash_path, paths, on_progress, "reading"))
    hashes, lengths = tuple(name for name, _ in hashed), np.array([length for _, length in hashed], np.int64)
    entry = cache_root() / "surveys" / f"{content_key(DECODER_VERSION, content_key(*hashes))}.json"
    known = read_json(entry)
    if known is None:
        inspected = list(thread_map(_inspect, paths, on_progress, "measuring"))
        levels = [level for _, level, _ in inspected if level is not None]
        reasons = [reason or ("" if name else "cannot be read") for (_, _, reason), name in zip(inspected, hashes, strict=True)]
        known = {
            "sizes": [size for size, _, _ in inspected],
            "bits": max(8, max(levels, default=0).bit_length()),
            "deep": len(levels),
            "problems": {str(index): reason for index, reason in enumerate(reasons) if reason},
        }
        if all(hashes):  # a file that could not be opened may be readable at the next start
            write_json(entry, known)
    problems = {int(index): reason for index, reason in known["problems"].items()}
    return FileSurvey(hashes, lengths, known["bits"], problems, np.array(known["sizes"], np.int64).reshape(-1, 2), known["deep"])


def image_size_rule(survey: FileSurvey, *, gpu: bool) -> int:
    """Return the default `image_size` in pixels, from the median shorter side of the images and the device.

    For a GPU: that side rounded up to a multiple of 32, at least 96 and at most 224. For CPUs: 64 for a side of at most 64, else 96.
    """
    side = survey.median_side
    if gpu:
        return min(224, max(96, -(-side // 32) * 32))
    return 64 if side <= 64 else 96


def read_unchanged(path: object, read: ReadBytes, length: int, expected: str) -> bytes:
    """Return a file's bytes. Raises ``DataError`` if it cannot be read, or its number of bytes is not `length` or its hash `expected`."""
    then, what_to_do = "when the data set was prepared", "put the file back as it was, or start a new search"
    try:
        data = read(path)
    except OSError as error:
        why = error.strerror or str(error)
        raise DataError(f"{path} cannot be read ({why}) but held {length:,} bytes {then}; {what_to_do}") from None
    if len(data) != length:
        raise DataError(f"{path} holds {len(data):,} bytes but held {length:,} {then}; {what_to_do}")
    if (digest := blake2b(data, digest_size=16).hexdigest()) != expected:
        raise DataError(f"{path} holds other bytes (hash {digest[:12]}) than {then} ({expected[:12]}); {what_to_do}")
    return data


def hash_file(file: BufferedReader) -> str:
    """Return the hash (BLAKE2b, 32 hexadecimal digits) of an open file from its position to its end; the file is then at its end."""
    return file_digest(file, lambda: blake2b(digest_size=16)).hexdigest()


def content_key(*parts: str) -> str:
    """Return one hash (32 hexadecimal digits) of several texts, used as the name of a cache entry."""
    return blake2b("\n".join(parts).encode(), digest_size=16).hexdigest()


def _hash_path(path: Path) -> tuple[str, int]:
    try:
        with path.open("rb") as file:
            return hash_file(file), file.tell()
    except OSError:
        return "", 0


def _inspect(path: Path) -> tuple[tuple[int, int], int | None, str]:
    """Return ((width, height), `white_level` if over 8 bits else None, ""); ((0, 0), None, reason) for an image that cannot be read."""
    try:
        width, height, deep = header(path)
        return (width, height), white_level(path) if deep else None, ""
    except Unreadable as error:
        return (0, 0), None, str(error)
