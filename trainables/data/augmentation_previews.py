"""`sheets`, which draws what augmentation does to a data set's own images: one sheet of pictures for each strength."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from trainables.data.dataset import Dataset
from trainables.images.augmentation import Augmenter, sample_seed
from trainables.images.thumbnails import jpeg, target_text

STRENGTHS = tuple(step / 8 for step in range(9))
EXAMPLES, DRAWS = 5, 5  # images of a sheet, and augmented views of each
SIDE, GAP = 112, 4  # pixels
BACKGROUND = (128, 128, 128)


def sheets(dataset: Dataset, ops: Sequence[str]) -> dict[str, Any]:
    """Return a dict for the dashboard; `ops` are the names of the augmentation's operations, keys of `OPS`.

    `sheets`: strength as text ("0.125") → JPEG file as bytes. `images`: the titles of a sheet's rows, "name: label". `ops`, `draws`: the
    operations, and the number of views of an image. A row is one image: as evaluation sees it, then `DRAWS` augmented views.
    Every strength uses the same random seeds.
    """
    rows = examples(dataset)
    drawn = {str(strength): jpeg(_sheet(dataset, rows, strength, ops)) for strength in STRENGTHS}
    return {"ops": list(ops), "draws": DRAWS, "images": [_title(dataset, row) for row in rows], "sheets": drawn}


def examples(dataset: Dataset) -> list[int]:
    """Return the indices of at most `EXAMPLES` training images, spread over the classes, or over the target values of a regression."""
    rows, targets = dataset.rows["train"], dataset.targets[dataset.rows["train"]]
    order = np.argsort(targets if targets.ndim == 1 else targets.argmax(1), kind="stable")
    chosen = np.linspace(0, len(rows) - 1, 2 * min(EXAMPLES, len(rows)) + 1).astype(np.int64)[1::2]  # the middles of equal parts
    return [int(rows[order[position]]) for position in chosen]


def _sheet(dataset: Dataset, rows: Sequence[int], strength: float, ops: Sequence[str]) -> Image.Image:
    size = dataset.image_size
    plain, augment = Augmenter(0, (), size), Augmenter(strength, ops, size)
    sheet = Image.new("RGB", _place(DRAWS + 1, len(rows)), BACKGROUND)
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
    return f"{dataset.names[row]}: {target_text(dataset.task, dataset.classes, dataset.targets[row])}"
