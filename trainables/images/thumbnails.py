"""JPEG encoding, and targets as text, for the pictures of the dashboard and reports. Imports no torch."""

import io
from collections.abc import Sequence
from typing import Any

from PIL import Image

QUALITY = 85


def jpeg(picture: Image.Image) -> bytes:
    """Return a picture encoded as JPEG, the bytes of a file."""
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=QUALITY)
    return file.getvalue()


def target_text(task: str, classes: Sequence[str], target: Any) -> str:
    """Return the target of one image as text: the class's name, the names of the labels that are 1 (or 'none'), or the number."""
    if task == "regression":
        return f"{float(target):.4g}"
    if task == "multilabel":
        return ", ".join(name for name, there in zip(classes, target, strict=True) if there) or "none"
    return classes[int(target)]
