"""What augmentation does to a study's own images: a sheet for each strength, for people to look at."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from trainables.data.dataset import Dataset
from trainables.images.augmentation import Augmenter, sample_seed
from trainables.images.thumbnails import jpeg, label

STRENGTHS = tuple(step / 8 for step in range(9))
IMAGES, DRAWS, SIDE, GAP = 5, 5, 112, 4
PAPER = (128, 128, 128)


def sheets(dataset: Dataset, ops: Sequence[str]) -> dict[str, Any]:
    """Return JPEG sheets by strength, a row an image: as evaluation sees it, then as `DRAWS` training steps would.

    `images` names the images and their labels from top to bottom; the same random numbers are drawn at each strength.
    """
    rows = examples(dataset)
    drawn = {str(strength): jpeg(_sheet(dataset, rows, strength, ops)) for strength in STRENGTHS}
    return {"ops": list(ops), "draws": DRAWS, "images": [_title(dataset, row) for row in rows], "sheets": drawn}


def examples(dataset: Dataset) -> list[int]:
    """Return training images, spread over the classes, or over the values of a regression."""
    rows, targets = dataset.rows["train"], dataset.targets[dataset.rows["train"]]
    order = np.argsort(targets if targets.ndim == 1 else targets.argmax(1), kind="stable")
    chosen = np.linspace(0, len(rows) - 1, 2 * min(IMAGES, len(rows)) + 1).astype(np.int64)[1::2]  # the middles of equal parts
    return [int(rows[order[place]]) for place in chosen]


def _sheet(dataset: Dataset, rows: Sequence[int], strength: float, ops: Sequence[str]) -> Image.Image:
    size = dataset.image_size
    plain, augment = Augmenter(0, (), size), Augmenter(strength, ops, size)
    sheet = Image.new("RGB", _place(DRAWS + 1, len(rows)), PAPER)
    for down, row in enumerate(rows):
        pixels = np.asarray(dataset.images[row])
        views = [plain(pixels, 0), *(augment(pixels, sample_seed(0, draw, row)) for draw in range(DRAWS))]
        for across, view in enumerate(views):
            sheet.paste(_square(view), _place(across, down))
    return sheet


def _place(across: int, down: int) -> tuple[int, int]:
    return across * (SIDE + GAP), down * (SIDE + GAP)


def _square(pixels: npt.NDArray[np.uint8]) -> Image.Image:
    return Image.fromarray(pixels).resize((SIDE, SIDE), Image.Resampling.BICUBIC)


def _title(dataset: Dataset, row: int) -> str:
    return f"{dataset.names[row]}: {label(dataset.task, dataset.classes, dataset.targets[row])}"
