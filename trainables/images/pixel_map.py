"""Every image decoded and resized once a node, in one memory map that all trials share."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from hashlib import blake2b, file_digest
from io import BufferedReader
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import PIL
from PIL import Image, ImageOps

from trainables.config import Aspect
from trainables.errors import DataError
from trainables.images.decode import Pixels, Unreadable, decode, header, peak
from trainables.storage.cache import cache_root, locked, publishing, read_json, require_space, write_json
from trainables.thread_map import Progress, in_parallel

Read = Callable[[Any], bytes]  # what a place holds

# Part of every cached name: the same file may give other pixels under another version. Raise the first when this code does.
VERSION = f"2 {PIL.__version__} {cv2.__version__}"
MARGIN = 8 / 7  # stored side over image_size: ImageNet's 256 for 224, so that crops have somewhere to move
IMAGES = "images.npy"
GREY = 128  # of padding: close to 0 once normalised, where black or white edges would be the strongest signal in the picture


@dataclass(frozen=True)
class Contents:
    """What the files hold, byte for byte, and all else that decides their pixels."""

    hashes: tuple[str, ...]  # of each file's bytes, '' where it cannot be read
    lengths: npt.NDArray[np.int64]  # (N,) bytes, 0 where it cannot be read
    bits: int  # that the 16-bit images of the data set really use; 8 where there are none
    problems: dict[int, str]  # index -> reason

    @cached_property
    def key(self) -> str:
        """The name of all that the files hold, in order."""
        return _key(*self.hashes)


@dataclass(frozen=True)
class Survey(Contents):
    """What is known of the files before any pixel is kept."""

    sizes: npt.NDArray[np.int64]  # (N, 2) upright width and height in pixels, 0 where unreadable

    @property
    def median_side(self) -> int:
        """The median of the images' shorter sides, pixels; 0 where none is readable."""
        sides = self.sizes.min(axis=1)
        return int(np.median(sides[sides > 0])) if (sides > 0).any() else 0


@dataclass(frozen=True)
class PixelMap:
    """Decoded images of one data set at one size."""

    key: str
    images: npt.NDArray[np.uint8]  # (N, S, S, 3) RGB, a read-only memory map; zeros where unreadable
    digests: tuple[str, ...]  # of the decoded pixels before they are resized, '' where unreadable
    problems: dict[int, str]  # index -> reason


def survey(paths: Sequence[Path], *, progress: Progress | None = None) -> Survey:
    """Hash every file and read its header; headers are remembered by content."""
    hashed = list(in_parallel(_hash, paths, progress, "reading"))
    hashes, lengths = tuple(name for name, _ in hashed), np.array([length for _, length in hashed], np.int64)
    entry = cache_root() / "surveys" / f"{_key(VERSION, _key(*hashes))}.json"
    known = read_json(entry)
    if known is None:
        found = list(in_parallel(_inspect, paths, progress, "measuring"))
        peaks = [top for _, top, _ in found]
        reasons = [reason or ("" if name else "cannot be read") for (_, _, reason), name in zip(found, hashes, strict=True)]
        known = {
            "sizes": [size for size, _, _ in found],
            "bits": max(8, max(peaks, default=0).bit_length()),
            "problems": {str(index): reason for index, reason in enumerate(reasons) if reason},
        }
        if all(hashes):  # a file that could not be opened may open tomorrow
            write_json(entry, known)
    problems = {int(index): reason for index, reason in known["problems"].items()}
    return Survey(hashes, lengths, known["bits"], problems, np.array(known["sizes"], np.int64).reshape(-1, 2))


def image_size_rule(survey: Survey, weights: str) -> int:
    """Return the side in pixels at which a network is fine-tuned, from the median shorter side of the images.

    ImageNet weights: that side rounded up to a multiple of 32 within 96 to 224. Others: 64 up to a side of 64, else 96.
    """
    side = survey.median_side
    if weights == "imagenet":
        return min(224, max(96, -(-side // 32) * 32))
    return 64 if side <= 64 else 96


def stored_side(image_size: int) -> int:
    """Return the side of the stored squares, pixels."""
    return round(image_size * MARGIN)


def pixels_key(survey_key: str, bits: int, image_size: int, aspect: str) -> str:
    """Return the name of a pixel map: what was decoded, and how."""
    return _key(VERSION, survey_key, str(bits), str(stored_side(image_size)), aspect)


def map_pixels(
    places: Sequence[object],
    contents: Contents,
    *,
    image_size: int,
    aspect: Aspect,
    read: Read = Path.read_bytes,
    digests: Sequence[str] | None = None,
    budget_bytes: int | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> PixelMap:
    """Return the pixel map of the files, made if this node's cache does not hold it yet.

    Two processes that ask at once make it once. Raises ``ResourceError`` before any work if it does not fit the disk or the budget, and
    ``DataError`` for a file that no longer holds what it did, or whose pixels have not the `digests` that they had elsewhere.
    """
    side = stored_side(image_size)
    key = pixels_key(contents.key, contents.bits, image_size, aspect)
    work = partial(_prepare, places, contents, read, side=side, aspect=aspect)

    def fill(folder: Path) -> None:
        found: list[str] = []
        problems = dict(contents.problems)
        with (folder / IMAGES).open("wb") as file:
            shape = (len(places), side, side, 3)
            np.lib.format.write_array_header_2_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
            # Written row by row, never through the map: on a full disk a map kills the process (SIGBUS), a write raises.
            rows = in_parallel(work, range(len(places)), progress, "decoding", workers)
            for index, (pixels, digest, reason) in enumerate(rows):
                if digests is not None and digest != digests[index]:
                    raise _decoded_otherwise(places[index], reason)
                file.write(pixels.data)
                found.append(digest)
                if reason:
                    problems[index] = reason
        write_facts(folder, found, problems)

    return keep_pixels(key, len(places), side, fill, budget_bytes)


def keep_pixels(key: str, count: int, side: int, fill: Callable[[Path], None], budget_bytes: int | None = None) -> PixelMap:
    """Return a pixel map from this node's cache, filled once if it is not there: `fill` writes it into a folder that it is given."""
    folder = cache_root() / "pixels"
    if (known := _find(key)) is not None:
        return known
    with locked(folder / key):
        if (known := _find(key)) is not None:
            return known
        require_space(count * side * side * 3, folder, budget_bytes, f"{count:,} images of {side} × {side} pixels")
        with publishing(folder / key) as partial_folder:
            fill(partial_folder)
    return open_pixels(key)


def write_facts(folder: Path, digests: Sequence[str], problems: dict[int, str]) -> None:
    """Write what stands beside the pixels of a map."""
    write_json(folder / "map.json", {"digests": list(digests), "problems": {str(index): reason for index, reason in problems.items()}})


def open_pixels(key: str) -> PixelMap:
    """Return a pixel map from this node's cache; raises ``DataError`` if it is not there."""
    found = _find(key)
    if found is None:
        raise DataError(f"the decoded images {key} are not in {cache_root() / 'pixels'}; prepare the data set again on this machine")
    return found


def _pad(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    side, longest = size[0], max(image.size)
    if min(image.size) * side < longest:  # a strip of which Pillow would keep no line
        image = image.resize((max(1, image.width * side // longest), max(1, image.height * side // longest)), Image.Resampling.BICUBIC)
    return ImageOps.pad(image, size, Image.Resampling.BICUBIC, color=(GREY,) * 3)


SQUARES: dict[Aspect, Callable[[Image.Image, tuple[int, int]], Image.Image]] = {
    "crop": partial(ImageOps.fit, method=Image.Resampling.BICUBIC),
    "pad": _pad,
    "squash": partial(Image.Image.resize, resample=Image.Resampling.BICUBIC),
}
"""Pillow's own squares, so that whoever uses an exported network makes the same pixels with one call."""


def square(image: Pixels, side: int, aspect: Aspect) -> Pixels:
    """Return ``(H, W, 3) uint8`` pixels as a ``(side, side, 3) uint8`` square: its middle, the whole on grey, or squashed."""
    return np.asarray(SQUARES[aspect](Image.fromarray(image), (side, side)))


def _prepare(places: Sequence[object], contents: Contents, read: Read, index: int, *, side: int, aspect: Aspect) -> tuple[Pixels, str, str]:
    reason = ""
    if index not in contents.problems:
        data = read_same(places[index], read, int(contents.lengths[index]), contents.hashes[index])
        try:
            image = decode(data, contents.bits)
            digest = blake2b(image.data, digest_size=16, salt=image.shape[1].to_bytes(16, "big")).hexdigest()
            return square(image, side, aspect), digest, ""
        except Unreadable as error:
            reason = str(error)
    return np.zeros((side, side, 3), np.uint8), "", reason


def _decoded_otherwise(place: object, reason: str) -> DataError:
    if reason:
        return DataError(f"{place} cannot be decoded on this node ({reason}), though it could be where the data set was prepared")
    return DataError(
        f"{place} decodes to other pixels than where the data set was prepared, though Pillow and OpenCV have the same versions; "
        "install them from the same packages on every node: they bring the libraries that decode"
    )


def read_same(place: object, read: Read, length: int, expected: str) -> bytes:
    """Return the bytes of a file that are as many as they were and have the same hash; raises ``DataError`` if they do not."""
    then, what_to_do = "when the data set was prepared", "put the file back as it was, or start a new search"
    try:
        data = read(place)
    except OSError as error:
        why = error.strerror or str(error)
        raise DataError(f"{place} cannot be read ({why}) but held {length:,} bytes {then}; {what_to_do}") from None
    if len(data) != length:
        raise DataError(f"{place} holds {len(data):,} bytes but held {length:,} {then}; {what_to_do}")
    if (found := blake2b(data, digest_size=16).hexdigest()) != expected:
        raise DataError(f"{place} holds other bytes (hash {found[:12]}) than {then} ({expected[:12]}); {what_to_do}")
    return data


def hash_file(file: BufferedReader) -> str:
    """Return the hash of an open file's bytes, read to its end."""
    return file_digest(file, lambda: blake2b(digest_size=16)).hexdigest()


def _hash(path: Path) -> tuple[str, int]:
    try:
        with path.open("rb") as file:
            return hash_file(file), file.tell()
    except OSError:
        return "", 0


def _inspect(path: Path) -> tuple[tuple[int, int], int, str]:
    try:
        found = header(path)
        return (found.width, found.height), peak(path) if found.deep else 0, ""
    except Unreadable as error:
        return (0, 0), 0, str(error)


def _find(key: str) -> PixelMap | None:
    folder = cache_root() / "pixels" / key
    known = read_json(folder / "map.json")
    try:
        images = np.load(folder / IMAGES, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError):
        return None
    if known is None or len(known["digests"]) != len(images):
        return None
    return PixelMap(key, images, tuple(known["digests"]), {int(index): reason for index, reason in known["problems"].items()})


def _key(*parts: str) -> str:
    return blake2b("\n".join(parts).encode(), digest_size=16).hexdigest()
