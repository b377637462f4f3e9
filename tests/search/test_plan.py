from pathlib import Path

import numpy as np
import pytest

from search.config import SearchConfig, read_config
from search.plan import absolute, choose_backbones, default_ops, make_plan
from tests.search.conftest import paint, regression_table, table
from trainables.errors import ConfigError, DataError, StorageError, WeightsError


def plan(source, *settings, **options):
    return make_plan(read_config(source, {"image_size": 32} | options, settings))


def test_a_plan_of_a_folder(photos):
    made = plan(photos, seed=4)
    assert (made.metric, made.mode, made.dataset.task) == ("accuracy", "max", "multiclass")
    assert made.space.recipe.backbone == "mobilenet_v3_small"
    assert made.space.recipe.batch_size == 8
    assert made.assigned(7, made.space.recipe).seed == 400_019
    assert made.assigned(6, made.space.recipe).seed != made.assigned(7, made.space.recipe).seed
    facts = made.dataset_facts()
    assert facts["classes"] == ["blue", "green", "red"]
    assert sum(facts["images"].values()) == 48


def test_batches_that_several_gpus_cannot_share_evenly(photos):
    with pytest.raises(
        ConfigError, match=r"a batch of 8 cannot be dealt out to 3 GPUs in 3 equal parts; set space.batch_size to multiples of 3"
    ):
        plan(photos, "resources.gpus_per_trial=3")
    assert plan(photos, "resources.gpus_per_trial=3", "space.batch_size=6").space.recipe.batch_size == 6


def test_backbones_by_weights():
    assert choose_backbones(SearchConfig(), {}) == ("mobilenet_v3_small",)
    assert choose_backbones(SearchConfig(weights="none"), {}) == ("mobilenet_v3_small", "resnet18")
    assert choose_backbones(SearchConfig(weights="none", backbones=("resnet50",)), {}) == ("resnet50",)
    changes = {"backbone": ["resnet18", "alexnet"], "epochs": 3}
    assert choose_backbones(SearchConfig(weights="none"), changes) == ("resnet18", "alexnet")
    assert changes == {"epochs": 3}
    with pytest.raises((ConfigError, WeightsError)):
        choose_backbones(SearchConfig(backbones=("resnet18",)), {})


def test_digits_are_not_mirrored():
    assert "flip" not in default_ops("builtin:digits")
    assert "flip" in default_ops("photos")


def test_paths_are_resolved_and_words_are_not(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = absolute(read_config("photos", {"output": "out", "weights": "mine.pth"}, ("data.image_folder=images",)))
    assert config.data.source == str(tmp_path / "photos")
    assert config.data.image_folder == str(tmp_path / "images")
    assert config.weights == str(tmp_path / "mine.pth")
    assert config.output == tmp_path / "out"
    plain = absolute(SearchConfig())
    assert (plain.data.source, plain.weights, plain.data.image_folder) == ("builtin:digits", "builtin", None)
    assert absolute(read_config("~/photos", {})).data.source == str(Path.home() / "photos")


def test_a_bucket_of_images_is_left_as_it_is():
    url = "s3://bucket/photos?endpoint_override=http://127.0.0.1:9000&region=us-east-1"
    config = absolute(read_config(url, {}, ("data.image_folder=images",)))
    assert (config.data.source, config.data.image_folder) == (url, "images")
    with pytest.raises(StorageError, match="'http://host/photos' cannot be a data source; name a folder, or a bucket"):
        absolute(read_config("http://host/photos", {}))
    with pytest.raises(StorageError, match=r"the data source s3://.* holds a password or a key"):
        absolute(read_config("s3://user:password@bucket/photos", {}))


def test_losses_and_scales_are_checked_on_the_targets(tmp_path):
    assert plan(regression_table(tmp_path / "good"), "space.loss=[mse, mape]", "space.target=[linear, log]").metric == "mae"
    zero = table(tmp_path / "zero", "weight", lambda index, rng: ((index * 5,) * 3, str(index * 0.5)))
    with pytest.raises(DataError, match="loss mape divides by the target"):
        plan(zero, "space.loss=[mse, mape]")
    with pytest.raises(DataError, match="target: log needs targets above 0"):
        plan(zero, "space.target=log")


def test_top5_needs_ten_classes(photos):
    with pytest.raises(ConfigError, match="metric top5 needs at least 10 classes, but there are 3"):
        plan(photos, metric="top5")


def test_a_validation_part_that_cannot_judge_is_refused(tmp_path):
    for part, names in {"train": "ab", "validation": "a", "test": "ab"}.items():
        for name in names:
            for index in range(8):
                paint(tmp_path / part / name / f"{index}.png", (20 * index, 90, 10 * len(part) + ord(name)), np.random.default_rng(index))
    with pytest.raises(DataError, match="no image of 'b'"):
        make_plan(SearchConfig(data={"source": str(tmp_path)}, image_size=32))


def test_paths_that_cannot_be_resolved_are_named():
    with pytest.raises(ConfigError, match="~nobody-of-that-name/x"):
        absolute(SearchConfig(data={"source": "~nobody-of-that-name/x"}))
