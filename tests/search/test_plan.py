import numpy as np
import pytest

from search.config import SearchConfig
from search.config_reader import read_config
from search.plan import default_augmentation, make_plan
from tests.search.conftest import paint
from trainables.errors import ConfigError, DataError
from trainables.images.decode import DECODER_VERSION


def plan(source, *settings, **options):
    return make_plan(read_config(source, {"image_size": 32} | options, settings))


def test_a_plan_of_an_image_folder(photos):
    made = plan(photos, seed=4)
    assert (made.metric, made.mode, made.dataset.task) == ("accuracy", "max", "multiclass")
    assert made.space.recipe.backbone == "mobilenet_v3_small"
    assert made.space.recipe.batch_size == 8
    assert made.with_seed(7, made.space.recipe).seed == 400_019
    assert made.with_seed(6, made.space.recipe).seed != made.with_seed(7, made.space.recipe).seed
    facts = made.dataset_facts()
    assert facts["classes"] == ["blue", "green", "red"]
    assert facts["decoder"] == DECODER_VERSION
    assert sum(facts["images"].values()) == 48


def test_digits_are_not_mirrored():
    assert "flip" not in default_augmentation("builtin:digits")
    assert "flip" in default_augmentation("photos")


def test_top5_needs_ten_classes(photos):
    with pytest.raises(ConfigError, match="metric top5 needs at least 10 classes, but there are 3"):
        plan(photos, metric="top5")


def test_a_validation_split_with_one_class_is_refused(tmp_path):
    for part, names in {"train": "ab", "validation": "a", "test": "ab"}.items():
        for name in names:
            for index in range(8):
                paint(tmp_path / part / name / f"{index}.png", (20 * index, 90, 10 * len(part) + ord(name)), np.random.default_rng(index))
    with pytest.raises(DataError, match="no image of 'b'"):
        make_plan(SearchConfig(data={"source": str(tmp_path)}, image_size=32))
