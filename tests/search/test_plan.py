import numpy as np
import pytest

from search.config import SearchConfig
from search.config_reader import read_config
from search.driver.steering import config_to_record
from search.plan import default_augmentation, make_plan
from tests.cluster.http_server import http_server
from tests.search.conftest import TABLES, paint
from trainables.config import validate
from trainables.data.dataset import open_dataset
from trainables.errors import ConfigError, DataError
from trainables.images.decode import DECODER_VERSION
from trainables.networks.backbones import backbone


def plan(source, *settings, **options):
    return make_plan(read_config(source, {"image_size": 32} | options, settings))


def test_a_plan_of_an_image_folder(photos):
    made = plan(photos, seed=4)
    assert (made.metric, made.mode, made.dataset.task) == ("accuracy", "max", "multiclass")
    assert (made.space.recipe.backbone, made.space.recipe.weights) == ("efficientnet_lite0", "imagenet")
    assert made.space.recipe.batch_size == 8
    assert made.with_seed(7, made.space.recipe).seed == 400_019
    assert made.with_seed(6, made.space.recipe).seed != made.with_seed(7, made.space.recipe).seed
    facts = made.dataset_facts()
    assert facts["classes"] == ["blue", "green", "red"]
    assert facts["decoder"] == DECODER_VERSION
    assert sum(facts["images"].values()) == 48


def test_the_plan_names_the_backbones_and_the_image_size_that_were_chosen(photos):
    made = make_plan(read_config(photos, {"weights": "none"}))
    assert (made.config.backbones, made.config.image_size, made.image_sizes) == (("mobilenet_v3_small", "resnet18"), (64,), (64,))
    assert (made.dataset.image_size, made.space.recipe.image_size) == (64, 64)
    again = make_plan(validate(SearchConfig, config_to_record(made.config)))
    assert again.config.model_copy(update={"storage": None}) == made.config
    assert again.space.describe() == made.space.describe()


def test_several_image_sizes_are_decoded_once_each_and_searched_in_order(photos):
    made = plan(photos, "image_size=[48, 32, 48]", weights="none")
    assert (made.image_sizes, made.config.image_size) == ((32, 48), (32, 48))
    assert (made.dataset.image_size, made.space.recipe.image_size) == (32, 32)
    assert made.space.describe()["image_size"] == "32 to 48 by 16"
    found = [open_dataset(made.dataset.fingerprint, size, "crop") for size in made.image_sizes]
    assert [data.image_size for data in found] == [32, 48]
    assert found[0].images.shape[1] < found[1].images.shape[1]
    assert plan(photos, "image_size=[32]", weights="none").config.image_size == (32,)


def test_every_image_size_must_suit_every_backbone(photos):
    with pytest.raises(ConfigError, match="inception_v3 accepts images of at least 75 pixels, but image_size is 48"):
        plan(photos, "image_size=[80, 48]", "backbones=[resnet18, inception_v3]", weights="none")


@pytest.mark.parametrize(
    ("task", "setting", "message"),
    [
        ("regression", "space.mixup=0.2", "mixup 0.2 would mix the targets"),
        ("regression", "space.mixup=[0, 0.4]", r"mixup 0\.4 would mix the targets"),
        ("regression", "space.class_balance=loss", "class_balance: loss weighs classes"),
        ("multilabel", "space.class_balance=[none, sampling]", "class_balance: sampling draws all classes equally often"),
        ("binary", "space.evaluation_size=38", "evaluation_size must be at most 37"),
        ("binary", "space.l2_sp=0.1", "l2_sp 0.1 decays towards pretrained weights"),
    ],
)
def test_settings_that_do_not_apply_to_the_data_are_refused_before_any_trial(tmp_path, task, setting, message):
    """A search would otherwise start, and each of its trials would fail."""
    with pytest.raises(ConfigError, match=message):
        plan(TABLES[task](tmp_path / task), setting, weights="none")


def test_named_weights_that_are_absent_are_fetched_before_the_first_trial(photos, weights_here, monkeypatch):
    content, told = weights_here.publish("resnet18"), []
    config = read_config(photos, {"image_size": 32}, ("backbones=[resnet18, mobilenet_v3_small]",))
    weights_here.cache("mobilenet_v3_small")
    with http_server(200, content.decode(), asked=[]) as mirror:
        monkeypatch.setenv("INJERTO_WEIGHTS_URL", mirror)
        made = make_plan(config, lambda done, total, what: told.append((done, total, what)))
    assert made.config.backbones == ("resnet18", "mobilenet_v3_small")
    assert (weights_here.folder / backbone("resnet18").weights_file).read_bytes() == content
    assert [step for step in told if step[2].startswith("fetching")] == [(len(content), 0, "fetching resnet18")]


def test_digits_are_not_mirrored():
    assert "flip" not in default_augmentation("builtin:digits")
    assert "flip" in default_augmentation("photos")


def test_without_flips_the_default_recipe_does_not_average_mirror_images(photos, weights_here):
    weights_here.cache("mobilenet_v3_small")
    for settings, averages in (((), True), (("space.augmentation_ops=[crop, color]",), False), (("space.flip_average=false",), False)):
        config = read_config(photos, {"image_size": 32}, ("backbones=[mobilenet_v3_small]", *settings))
        assert make_plan(config).space.recipe.flip_average is averages


def test_two_settings_that_exclude_each_other_are_refused_before_the_first_trial(photos):
    config = read_config(
        photos, {"weights": "none"}, ("backbones=[mobilenet_v3_small]", "image_size=[32, 64]", "space.evaluation_size=[36]")
    )
    with pytest.raises(ConfigError, match=r"space\.evaluation_size and space\.image_size together:\n.*must be at least image_size, 64"):
        make_plan(config)


@pytest.mark.parametrize("folds", ["[0, 3]", "{low: 2, high: 5}"])
def test_all_trials_have_the_same_folds(photos, folds):
    config = read_config(photos, {"weights": "none"}, (f"space.folds={folds}", "backbones=[mobilenet_v3_small]"))
    with pytest.raises(ConfigError, match=r"all trials must have the same, but got .*; set one number, such as space\.folds: 5"):
        make_plan(config)


def test_the_largest_batch_is_that_of_a_fold(photos):
    config = read_config(photos, {"weights": "none", "image_size": 32}, ("space.folds=2", "backbones=[mobilenet_v3_small]"))
    made = make_plan(config)
    assert (made.space.recipe.folds, made.space.recipe.batch_size) == (2, 5)
    assert made.dataset.notes[-1] == "each trial trains 2 networks, one for each fold of the 41 training and validation images"


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
