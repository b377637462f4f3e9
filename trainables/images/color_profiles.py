"""`srgb_transform`, which turns the colours of an image with an ICC profile into sRGB, the colour space of pretrained networks."""

from collections.abc import Callable
from functools import lru_cache
from io import BytesIO

import numpy as np
from PIL import Image, ImageCms

MODES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}
"""Colour space of a profile → the mode of Pillow that its transform takes."""
GREY_MODES = ("1", "L", "LA", "La", "I")
NOT_RGB = ("CMYK", "LAB", "HSV", "YCbCr")
SAME = 3  # levels of 255: profiles of sRGB itself, which many programs write, differ from each other by up to 2
STEPS = np.linspace(0, 255, 9).round().astype(np.uint8)

Transform = Callable[[Image.Image], Image.Image]
"""Function from an image, with or without alpha, to its ``RGB`` colours in sRGB."""


def srgb_transform(image: Image.Image) -> Transform | None:
    """Return a function that turns images like this one into sRGB; None where the pixels are to stay as they are.

    That is so for images without a profile, with a damaged one or one of another colour space than theirs, and for profiles of sRGB itself.
    The rendering intent is perceptual (ICC.1:2022, section 6.2.4).
    """
    profile = image.info.get("icc_profile")
    found = _transform(profile) if isinstance(profile, bytes) and profile else None
    if found is None or not _fits(image.mode, found.input_mode):
        return None
    return lambda picture: found.apply(picture if picture.mode == found.input_mode else picture.convert(found.input_mode))


def _fits(mode: str, wanted: str) -> bool:
    """Return whether a profile for the mode `wanted` describes images of `mode`. A grey image may have a profile for RGB."""
    if wanted == "CMYK":
        return mode == "CMYK"
    return mode.partition(";")[0] in GREY_MODES if wanted == "L" else mode not in NOT_RGB


@lru_cache(maxsize=16)
def _transform(profile: bytes) -> ImageCms.ImageCmsTransform | None:
    """Return the transform of a profile to sRGB; None if it is damaged, not for one of the `MODES`, or changes no colour by over `SAME`.

    Threads may share the transform: Little CMS copies its state for each call.
    """
    try:
        source = ImageCms.ImageCmsProfile(BytesIO(profile))
        mode = MODES.get(source.profile.xcolor_space.strip())
        if mode is None:
            return None
        transform = ImageCms.ImageCmsTransform(source, ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")), mode, "RGB")
        return transform if mode == "CMYK" or _changes(transform) else None
    except Exception:  # Little CMS raises several kinds for a damaged profile; the pixels can still be read
        return None


def _changes(transform: ImageCms.ImageCmsTransform) -> bool:
    """Return whether a transform changes any of 729 colours, or any grey, by more than `SAME`."""
    if transform.input_mode == "L":
        colors = np.arange(256, dtype=np.uint8)[None]
    else:
        colors = np.stack(np.meshgrid(STEPS, STEPS, STEPS), axis=-1).reshape(1, -1, 3)
    image = Image.fromarray(colors)
    before, after = np.asarray(image.convert("RGB")), np.asarray(transform.apply(image))
    return bool(np.abs(before.astype(np.int16) - after).max() > SAME)
