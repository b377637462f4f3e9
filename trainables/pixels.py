"""Every image decoded and resized once a node, in one memory map that all trials share."""

import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b, file_digest
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
import numpy.typing as npt
import PIL
from PIL import Image, ImageOps

from trainables.cache import cache_root, locked, publishing, read_json, require_space, write_json
from trainables.config import Aspect
from trainables.decode import Pixels, Unreadable, decode, header, peak
from trainables.errors import DataError

Progress = Callable[[int, int, str], None]  # done, total, what
Item = TypeVar("Item")
Result = TypeVar("Result")

# Part of every cached name: the same file may give other pixels under another version. Raise the first when this code does.
VERSION = f"2 {PIL.__version__} {cv2.__version__}"
MARGIN = 8 / 7  # stored side over image_size: ImageNet's 256 for 224, so that crops have somewhere to move
GREY = 128  # of padding: close to 0 once normalised, where black or white edges would be the strongest signal in the picture
BATCH = 256
TOLD = 16  # images between two calls of progress


@dataclass(frozen=True)
class Survey:
    """What is known of the files before any pixel is kept."""

    key: str  # of all contents, in order
    hashes: tuple[str, ...]  # of each file's bytes, '' where it cannot be read
    sizes: npt.NDArray[np.int64]  # (N, 2) upright width and height in pixels, 0 where unreadable
    bits: int  # that the 16-bit images of the data set really use; 8 where there are none
    problems: dict[int, str]  # index -> reason

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
    hashes = tuple(_in_parallel(_hash, paths, progress, "reading"))
    key = _key(*hashes)
    entry = cache_root() / "surveys" / f"{_key(VERSION, key)}.json"
    known = read_json(entry)
    if known is None:
        found = list(_in_parallel(_inspect, paths, progress, "measuring"))
        peaks = [top for _, top, _ in found]
        known = {
            "sizes": [size for size, _, _ in found],
            "bits": max(8, max(peaks, default=0).bit_length()),
            "problems": {str(index): reason for index, (_, _, reason) in enumerate(found) if reason},
        }
        if all(hashes):  # a file that could not be opened may open tomorrow
            write_json(entry, known)
    sizes = np.array(known["sizes"], np.int64).reshape(-1, 2)
    return Survey(key, hashes, sizes, known["bits"], {int(index): reason for index, reason in known["problems"].items()})


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
    paths: Sequence[Path],
    survey: Survey,
    *,
    image_size: int,
    aspect: Aspect,
    budget_bytes: int | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> PixelMap:
    """Return the pixel map of the files, made if this node's cache does not hold it yet.

    Two processes that ask at once make it once. Raises ``ResourceError`` before any work if it does not fit the disk or the budget.
    """
    side = stored_side(image_size)
    key = pixels_key(survey.key, survey.bits, image_size, aspect)
    if known := _find(key):
        return known
    folder = cache_root() / "pixels"
    with locked(folder / key):
        if known := _find(key):
            return known
        require_space(len(paths) * side * side * 3, folder, budget_bytes, f"{len(paths):,} images of {side} × {side} pixels")
        work = partial(_prepare, side=side, aspect=aspect, bits=survey.bits)
        pending = [None if index in survey.problems else path for index, path in enumerate(paths)]
        digests: list[str] = []
        problems = dict(survey.problems)
        with publishing(folder / key) as partial_folder:
            with (partial_folder / "images.npy").open("wb") as file:
                shape = (len(paths), side, side, 3)
                np.lib.format.write_array_header_2_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
                # Written row by row, never through the map: on a full disk a map kills the process (SIGBUS), a write raises.
                for index, (pixels, digest, reason) in enumerate(_in_parallel(work, pending, progress, "decoding", workers)):
                    file.write(pixels.data)
                    digests.append(digest)
                    if reason:
                        problems[index] = reason
            write_json(partial_folder / "map.json", {"digests": digests, "problems": {str(i): reason for i, reason in problems.items()}})
    return open_pixels(key)


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


def _prepare(path: Path | None, *, side: int, aspect: Aspect, bits: int) -> tuple[Pixels, str, str]:
    try:
        if path is not None:
            image = decode(path, bits)
            digest = blake2b(image.data, digest_size=16, salt=image.shape[1].to_bytes(16, "big")).hexdigest()
            return square(image, side, aspect), digest, ""
        reason = ""  # the survey has told why
    except Unreadable as error:
        reason = str(error)
    return np.zeros((side, side, 3), np.uint8), "", reason


def _hash(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file_digest(file, lambda: blake2b(digest_size=16)).hexdigest()
    except OSError:
        return ""


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
        images = np.load(folder / "images.npy", mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError):
        return None
    if known is None or len(known["digests"]) != len(images):
        return None
    return PixelMap(key, images, tuple(known["digests"]), {int(index): reason for index, reason in known["problems"].items()})


def _key(*parts: str) -> str:
    return blake2b("\n".join(parts).encode(), digest_size=16).hexdigest()


def processors() -> int:
    """Return the number of processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _in_parallel(
    work: Callable[[Item], Result], items: Sequence[Item], progress: Progress | None, what: str, workers: int | None = None
) -> Iterator[Result]:
    """Yield ``work(item)`` in order. Threads suffice: reading, hashing, decoding and resizing all release the interpreter's lock."""
    cv2.setNumThreads(1)
    executor = ThreadPoolExecutor(workers or processors())
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PIL's remarks on odd metadata, one a file
            for start in range(0, len(items), BATCH):  # so that results waiting to be written stay few
                for done, result in enumerate(executor.map(work, items[start : start + BATCH]), start + 1):
                    yield result
                    if progress and (done % TOLD == 0 or done == len(items)):
                        progress(done, len(items), what)
    finally:
        executor.shutdown(cancel_futures=True)
