"""Small pictures and labels in words, for what people look at. Light to import."""

import io
from collections.abc import Sequence
from typing import Any

from PIL import Image

QUALITY = 85


def jpeg(picture: Image.Image) -> bytes:
    """Return a picture as a JPEG file."""
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=QUALITY)
    return file.getvalue()


def label(task: str, classes: Sequence[str], target: Any) -> str:
    """Return a target in words: a class, the labels that are there, a number."""
    if task == "regression":
        return f"{float(target):.4g}"
    if task == "multilabel":
        return ", ".join(name for name, there in zip(classes, target, strict=True) if there) or "none"
    return classes[int(target)]
