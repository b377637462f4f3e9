import io

import numpy as np
import pytest
from PIL import Image

from trainables.config import AUGMENTATION_OPS
from trainables.data.augmentation_previews import DRAWS, GAP, SIDE, STRENGTHS, examples, sheets


def sheet_pixels(drawn, strength):
    return np.asarray(Image.open(io.BytesIO(drawn["sheets"][str(strength)])).convert("RGB"), float)


def tile(sheet, across, down):
    place = SIDE + GAP
    return sheet[down * place : down * place + SIDE, across * place : across * place + SIDE]


@pytest.mark.parametrize("task", ["multiclass", "regression", "multilabel"])
def test_sheets_has_one_sheet_a_strength_of_images_of_all_classes(task, request):
    dataset = request.getfixturevalue(task)
    drawn = sheets(dataset, AUGMENTATION_OPS)
    assert list(drawn["sheets"]) == [str(strength) for strength in STRENGTHS]
    rows = examples(dataset)
    assert len(set(rows)) == len(rows) == len(drawn["images"])
    assert set(rows) <= set(dataset.rows["train"].tolist())
    assert sheet_pixels(drawn, 1.0).shape == (len(rows) * (SIDE + GAP), (DRAWS + 1) * (SIDE + GAP), 3)
    if task == "multiclass":
        assert {int(dataset.targets[row]) for row in rows} == {0, 1, 2}
        assert drawn["images"][0].endswith(f": {dataset.classes[int(dataset.targets[rows[0]])]}")


def test_views_differ_more_from_the_image_at_higher_strength(multiclass):
    drawn = sheets(multiclass, AUGMENTATION_OPS)
    distances = []
    for strength in STRENGTHS:
        sheet = sheet_pixels(drawn, strength)
        plain = tile(sheet, 0, 0)
        distances.append(np.mean([np.abs(tile(sheet, draw, 0) - plain).mean() for draw in range(1, DRAWS + 1)]))
    assert distances[0] < 3
    assert distances[0] < distances[2] < distances[8]


def test_sheets_is_deterministic(multiclass):
    assert sheets(multiclass, ("crop", "color")) == sheets(multiclass, ("crop", "color"))
