"""`decode`, which turns an image file or its bytes into RGB uint8 pixels, and `Unreadable`, raised with a short reason if it cannot."""

import errno
import platform
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
import PIL
from PIL import Image, ImageFile, UnidentifiedImageError

from trainables.errors import DataError
from trainables.images.color_profiles import Transform, srgb_transform

Pixels = npt.NDArray[np.uint8]
EncodedImage = Path | bytes  # an image file, or its content

# Part of every cache key, because other versions may decode the same file to other pixels. Increase the first number when this module
# changes what it decodes.
DECODER_VERSION = f"3 {PIL.__version__} {cv2.__version__}"
DECODERS = ("the decoder", "Pillow", "OpenCV")  # whose versions these are

# Raster formats with a signature of their own. PIL also reads EPS, for which it would start Ghostscript on an untrusted file.
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "JPEG2000", "AVIF")
Image.init()  # registers every format once, before threads ask for one
MOST_PIXELS = 100_000_000
LEAST_SIDE = 2
# A JPEG decodes at 1/2, 1/4 or 1/8 as long as its shorter side stays above this: the largest image_size (1024) times 8/7.
# The limit does not depend on image_size, because otherwise two files might have identical pixels at one size and not at another.
DRAFT_SIDE = 1170
LARGE = 25_000_000  # pixels; larger images are decoded one at a time: sixty threads with 100 megapixels each would fill any memory
_large = threading.Lock()

WHITE = 0.999  # share of the pixels that are not brighter than `white_level`: a few hot pixels must not darken a whole data set

LFS_POINTER = "Git LFS pointer"
SIGNATURES = {
    b"version https://git-lfs": LFS_POINTER,
    b"<!doctype html": "a web page",
    b"<html": "a web page",
    b"%pdf": "a PDF",
}
HEIC = (b"ftypheic", b"ftypheix", b"ftyphevc", b"ftypmif1")

# EXIF 2.32, tag 0x0112: how to turn the stored rows and columns so that the image is upright.
ORIENTATION = 0x0112
TURNS: dict[int, Callable[[Pixels], Pixels]] = {
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: np.rot90(a),
}
SIDEWAYS = (5, 6, 7, 8)


class Unreadable(DataError):  # noqa: N818 (reads better than UnreadableError where it is caught)
    """Raised for a file that is no usable image; the message is the reason in a few words, without the file's name."""


class Header(NamedTuple):
    """An image's size in pixels after the EXIF rotation, and whether its channels have more than 8 bits (`deep`)."""

    width: int
    height: int
    deep: bool


def header(file: EncodedImage) -> Header:
    """Return the size and depth of an image without decoding its pixels. Raises ``Unreadable``, see `decode`."""
    with _open_image(file) as image:
        deep, (width, height) = _is_deep(image), image.size
        if _orientation(image) in SIDEWAYS:
            width, height = height, width
        return Header(width, height, deep)


def decode(file: EncodedImage, bits: int = 16) -> Pixels:
    """Return the ``(H, W, 3) uint8`` sRGB pixels of an image, turned upright by EXIF and blended with white where transparent.

    An ICC profile is applied, see `srgb_transform`. `bits` is the number of bits that the 16-bit images of the data set use: their values
    become ``value >> (bits - 8)``, at most 255. A JPEG far larger than any ``image_size`` is decoded at a half, a quarter or an eighth of
    its size. Raises ``Unreadable`` for a file that is missing, damaged, of another format than `FORMATS`, over 100 megapixels, or has a
    side below 2 pixels, float or 32-bit pixels.
    """
    with _open_image(file) as image:
        transform = srgb_transform(image)
        if _is_deep(image):
            pixels = _to_8_bits(_deep_pixels(image, file), bits, transform)
        else:
            image.draft(None, (DRAFT_SIDE, DRAFT_SIDE))
            with _large if image.width * image.height > LARGE else nullcontext():
                pixels = np.asarray(_to_rgb(image, transform))
        turn = TURNS.get(_orientation(image))
        return np.ascontiguousarray(turn(pixels) if turn else pixels)


def white_level(file: EncodedImage) -> int:
    """Return the value, 0 to 65535, that becomes white in an image with more than 8 bits: a share `WHITE` of its pixels is not brighter.

    At least one pixel counts as brighter. Raises ``Unreadable`` as `decode` does.
    """
    with _open_image(file) as image:
        brightness = _deep_pixels(image, file)[..., :3].max(axis=2).ravel()
        place = int(WHITE * (brightness.size - 1))
        brightness.partition(place)
        return int(brightness[place])


def decoder_differences(version: str) -> list[str]:
    """Return what differs between another machine's `DECODER_VERSION` and this one, such as 'Pillow 1.2.3 here but 1.2.4 there'."""
    pairs = zip(DECODERS, version.split(), DECODER_VERSION.split(), strict=False)
    return [f"{name} {here} here but {there} there" for name, there, here in pairs if here != there]


def check_decoder(version: str) -> None:
    """Raise ``DataError`` if this machine's `DECODER_VERSION` is not `version`, that of the machine where the search began."""
    if differing := decoder_differences(version):
        raise DataError(
            f"{platform.node()} would make other pixels than the machine where the search began: {', '.join(differing)}; "
            "install the same versions on every node"
        )


@contextmanager
def _open_image(file: EncodedImage) -> Iterator[Image.Image]:
    try:
        with _stream(file) as stream:
            _check_signature(stream.read(64))
            stream.seek(0)
            with Image.open(stream, formats=FORMATS) as image:
                if image.width * image.height > MOST_PIXELS:
                    raise Unreadable("over 100 megapixels")
                if min(image.size) < LEAST_SIDE:
                    raise Unreadable(f"smaller than {LEAST_SIDE} pixels")
                yield image
    except Unreadable:
        raise
    except Exception as error:  # decoders raise a dozen kinds on damaged files, from struct.error to SyntaxError
        raise Unreadable(_reason(error)) from None


def _stream(file: EncodedImage) -> BinaryIO:
    return BytesIO(file) if isinstance(file, bytes) else file.open("rb")


def _check_signature(start: bytes) -> None:
    if not start:
        raise Unreadable("empty file")
    for signature, reason in SIGNATURES.items():
        if start.lstrip().lower().startswith(signature):
            raise Unreadable(reason)
    if start[4:12] in HEIC:
        raise Unreadable("HEIC: convert it to JPEG")


def _reason(error: Exception) -> str:
    reasons: tuple[tuple[type[Exception], str], ...] = (
        (UnidentifiedImageError, "not an image"),
        (Image.DecompressionBombError, "over 100 megapixels"),
        (FileNotFoundError, "no such file"),
        (PermissionError, "no permission to read it"),
        (IsADirectoryError, "a folder"),
        (MemoryError, "more pixels than memory"),
        (EOFError, "truncated"),
    )
    for kind, reason in reasons:
        if isinstance(error, kind):
            return reason
    if isinstance(error, OSError) and error.errno == errno.EINVAL:
        return "not an image"  # its header names a place that no file has; in memory the same bytes give an UnidentifiedImageError
    text = " ".join(str(error).split())
    return "truncated" if "truncated" in text.lower() else f"damaged ({text[:60]})"


def _orientation(image: Image.Image) -> int:
    if image.format == "TIFF":
        return 1  # PIL and OpenCV apply it themselves
    if image.format == "PNG" and not image.info.keys() & {"exif", "Raw profile type exif"}:
        return 1  # getexif would decode the whole image
    try:
        return int(image.getexif().get(ORIENTATION, 1))
    except Exception:  # with a damaged EXIF block the pixels can still be read
        return 1


def _is_deep(image: Image.Image) -> bool:
    if image.mode == "F":
        raise Unreadable("floating-point pixels")
    return image.mode.startswith("I") or (isinstance(image, ImageFile.ImageFile) and any(";16" in str(tile[3]) for tile in image.tile))


def _deep_pixels(image: Image.Image, file: EncodedImage) -> npt.NDArray[Any]:
    """Return ``(H, W, 1 | 3 | 4) uint16`` grey, RGB or RGBA values; raises ``Unreadable`` for 32-bit pixels and a damaged file.

    `image` is the opened `file`. PIL keeps 16 bits for grey only, so OpenCV reads the others.
    """
    with _large:
        if image.mode.startswith("I"):
            values = np.asarray(image)
            if values.min() < 0 or values.max() > 0xFFFF:
                raise Unreadable("32-bit pixels")
            return values.astype(np.uint16)[..., None]
        with _stream(file) as stream:
            values = np.asarray(cv2.imdecode(np.frombuffer(stream.read(), np.uint8), cv2.IMREAD_UNCHANGED))
        if values.dtype != np.uint16:
            raise Unreadable("damaged (16-bit image)")
        if values.ndim == 2:
            return values[..., None]
        return values[..., [2, 1, 0, 3] if values.shape[2] == 4 else [2, 1, 0]]


def _to_8_bits(values: npt.NDArray[Any], bits: int, transform: Transform | None) -> Pixels:
    color, grey = np.minimum(values[..., :3] >> max(0, bits - 8), 255).astype(np.uint8), values.shape[2] == 1
    if transform is not None:
        color = np.asarray(transform(Image.fromarray(color[..., 0] if grey else color)))
    elif grey:
        color = np.repeat(color, 3, axis=2)
    return _on_white(color, (values[..., 3:] >> 8).astype(np.uint8)) if values.shape[2] == 4 else color


def _to_rgb(image: Image.Image, transform: Transform | None) -> Image.Image | Pixels:
    if image.mode in ("LA", "PA", "La", "RGBA", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        values = np.asarray(image)
        return _on_white(values[..., :3] if transform is None else np.asarray(transform(image)), values[..., 3:])
    if transform is not None:
        return transform(image)
    return image if image.mode == "RGB" else image.convert("RGB")


def _on_white(color: Pixels, alpha: Pixels) -> Pixels:
    weight = alpha.astype(np.uint16)
    return ((color * weight + 255 * (255 - weight) + 127) // 255).astype(np.uint8)
