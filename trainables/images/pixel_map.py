"""`PixelMap`, all images of a data set decoded and resized into one memory map, made once a node and shared by all its trials."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from trainables.config import Aspect
from trainables.errors import DataError
from trainables.images.decode import DECODER_VERSION, Pixels, Unreadable, decode
from trainables.images.file_survey import FileContents, ReadBytes, content_key, read_unchanged
from trainables.storage.cache import cache_root, locked, publishing, read_json, write_json
from trainables.storage.disk_space import require_space
from trainables.thread_map import OnProgress, thread_map

MARGIN = 8 / 7  # stored side over image_size: ImageNet's 256 for 224, so that random crops have room to move
IMAGES_FILE = "images.npy"
GREY = 128  # of padding: close to 0 once normalised, where black or white edges would be the strongest signal in the picture


@dataclass(frozen=True)
class PixelMap:
    """The N decoded images of one data set at one size, opened from this node's cache."""

    key: str  # see `pixels_key`
    images: npt.NDArray[np.uint8]  # (N, S, S, 3) RGB, a read-only memory map; zeros where unreadable
    digests: tuple[str, ...]  # of the decoded pixels before they are resized, '' where unreadable
    problems: dict[int, str]  # index of an unreadable image -> reason


def stored_side(image_size: int) -> int:
    """Return the side S in pixels of the squares that the pixel map stores for an `image_size`: 8/7 of it."""
    return round(image_size * MARGIN)


def pixels_key(survey_key: str, bits: int, image_size: int, aspect: str) -> str:
    """Return the cache key of a pixel map: a hash of the arguments and the decoders' versions. `survey_key`: `FileContents.key`."""
    return content_key(DECODER_VERSION, survey_key, str(bits), str(stored_side(image_size)), aspect)


def map_pixels(
    paths: Sequence[object],
    contents: FileContents,
    *,
    image_size: int,
    aspect: Aspect,
    read: ReadBytes = Path.read_bytes,
    digests: Sequence[str] | None = None,
    budget_bytes: int | None = None,
    workers: int | None = None,
    on_progress: OnProgress | None = None,
) -> PixelMap:
    """Return the pixel map of the files `paths`, whose hashes are `contents`; it is made if this node's cache does not hold it.

    `read` returns the bytes of a path; `workers` is the number of threads. Two processes that ask at once make it once. Raises
    ``ResourceError`` before any work if it does not fit the disk or the budget, and ``DataError`` for a file whose bytes have changed, or
    whose decoded pixels do not have the expected `digests`.
    """
    side = stored_side(image_size)
    key = pixels_key(contents.key, contents.bits, image_size, aspect)
    work = partial(_decode_square, paths, contents, read, side=side, aspect=aspect)

    def write_images(folder: Path) -> None:
        written: list[str] = []
        problems = dict(contents.problems)
        with (folder / IMAGES_FILE).open("wb") as file:
            shape = (len(paths), side, side, 3)
            np.lib.format.write_array_header_2_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
            # Written row by row, never through the map: on a full disk a map kills the process (SIGBUS), a write raises.
            rows = thread_map(work, range(len(paths)), on_progress, "decoding", workers)
            for index, (pixels, digest, reason) in enumerate(rows):
                if digests is not None and digest != digests[index]:
                    raise _other_pixels_error(paths[index], reason)
                file.write(pixels.data)
                written.append(digest)
                if reason:
                    problems[index] = reason
        write_facts(folder, written, problems)

    return cached_pixels(key, len(paths), side, write_images, budget_bytes)


def cached_pixels(key: str, count: int, side: int, write_images: Callable[[Path], None], budget_bytes: int | None = None) -> PixelMap:
    """Return a pixel map from this node's cache. If it is missing, `write_images(folder)` is called first.

    `write_images` writes `IMAGES_FILE` and calls `write_facts`. Raises ``ResourceError`` if `count` images of `side` × `side` pixels do not
    fit the disk or the budget, and what `write_images` raises.
    """
    folder = cache_root() / "pixels"
    if (known := _find(key)) is not None:
        return known
    with locked(folder / key):
        if (known := _find(key)) is not None:
            return known
        require_space(count * side * side * 3, folder, budget_bytes, f"{count:,} images of {side} × {side} pixels")
        with publishing(folder / key) as partial_folder:
            write_images(partial_folder)
    return open_pixels(key)


def write_facts(folder: Path, digests: Sequence[str], problems: dict[int, str]) -> None:
    """Write the fields `digests` and `problems` of a pixel map into its folder, as JSON."""
    write_json(folder / "map.json", {"digests": list(digests), "problems": {str(index): reason for index, reason in problems.items()}})


def open_pixels(key: str) -> PixelMap:
    """Return a pixel map from this node's cache; raises ``DataError`` if it is not there."""
    pixels = _find(key)
    if pixels is None:
        raise DataError(f"the decoded images {key} are not in {cache_root() / 'pixels'}; prepare the data set again on this machine")
    return pixels


def _pad(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    side, longest = size[0], max(image.size)
    if min(image.size) * side < longest:  # a strip so thin that Pillow would keep no row of it
        image = image.resize((max(1, image.width * side // longest), max(1, image.height * side // longest)), Image.Resampling.BICUBIC)
    return ImageOps.pad(image, size, Image.Resampling.BICUBIC, color=(GREY,) * 3)


SQUARES: dict[Aspect, Callable[[Image.Image, tuple[int, int]], Image.Image]] = {
    "crop": partial(ImageOps.fit, method=Image.Resampling.BICUBIC),
    "pad": _pad,
    "squash": partial(Image.Image.resize, resample=Image.Resampling.BICUBIC),
}
"""Aspect → function (image, (width, height)) that returns the resized image.

Each is one call of Pillow, so that users of an exported network can make the same pixels (`_pad` only adds a guard for thin strips)."""


def square(image: Pixels, side: int, aspect: Aspect) -> Pixels:
    """Return an image, ``(H, W, 3) uint8``, resized to ``(side, side, 3) uint8``.

    By `aspect`: "crop" its middle square, "pad" the whole image on grey, "squash" the whole image without its proportions.
    """
    return np.asarray(SQUARES[aspect](Image.fromarray(image), (side, side)))


def _decode_square(
    paths: Sequence[object], contents: FileContents, read: ReadBytes, index: int, *, side: int, aspect: Aspect
) -> tuple[Pixels, str, str]:
    """Return (square, digest of the decoded pixels, '') for the file at `index`; (zeros, '', reason) if it cannot be decoded.

    Raises ``DataError`` if the file's bytes have changed.
    """
    reason = ""
    if index not in contents.problems:
        data = read_unchanged(paths[index], read, int(contents.lengths[index]), contents.hashes[index])
        try:
            image = decode(data, contents.bits)
            digest = blake2b(image.data, digest_size=16, salt=image.shape[1].to_bytes(16, "big")).hexdigest()
            return square(image, side, aspect), digest, ""
        except Unreadable as error:
            reason = str(error)
    return np.zeros((side, side, 3), np.uint8), "", reason


def _other_pixels_error(path: object, reason: str) -> DataError:
    if reason:
        return DataError(f"{path} cannot be decoded on this node ({reason}), though it could be where the data set was prepared")
    return DataError(
        f"{path} decodes to other pixels than where the data set was prepared, though Pillow and OpenCV have the same versions; "
        "install them from the same packages on every node: they bring the libraries that decode"
    )


def _find(key: str) -> PixelMap | None:
    """Return a pixel map from this node's cache; None if it is missing or damaged."""
    folder = cache_root() / "pixels" / key
    known = read_json(folder / "map.json")
    try:
        images = np.load(folder / IMAGES_FILE, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError):
        return None
    if known is None or len(known["digests"]) != len(images):
        return None
    return PixelMap(key, images, tuple(known["digests"]), {int(index): reason for index, reason in known["problems"].items()})
