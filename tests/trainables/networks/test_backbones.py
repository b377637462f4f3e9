import pytest
from torchvision import models

from trainables.errors import ConfigError
from trainables.networks.backbones import BACKBONES, HALF, backbone

NOT_PURELY_CONVOLUTIONAL = ("maxvit", "swin", "vit")
TORCHVISIONS = [name for name, row in BACKBONES.items() if row.origin == "torchvision"]
LITES = [name for name, row in BACKBONES.items() if row.origin == "package"]


def test_the_table_has_every_convolutional_network_of_torchvision():
    names = [name for name in models.list_models(module=models) if not name.startswith(NOT_PURELY_CONVOLUTIONAL)]
    assert sorted(TORCHVISIONS) == names
    assert len({backbone(name).family for name in TORCHVISIONS}) == 14
    assert list(BACKBONES) == sorted(BACKBONES)


@pytest.mark.parametrize("name", LITES)
def test_each_lite_row_agrees_with_timm_except_for_the_statistics(name):
    import timm

    row = backbone(name)
    config = timm.get_pretrained_cfg(row.timm_name)
    assert row.native_size == config.input_size[1]
    assert (config.mean, config.std) == (HALF, HALF)
    assert ([255 * value for value in row.mean], [255 * value for value in row.std]) == ([127] * 3, [128] * 3)


@pytest.mark.parametrize("name", TORCHVISIONS)
def test_each_row_agrees_with_torchvisions_weights(name):
    row, weights = backbone(name), models.get_model_weights(name).DEFAULT
    preset = weights.transforms()
    assert row.weights_file == weights.url.rsplit("/", 1)[1]
    assert row.native_size == preset.crop_size[0]
    assert row.minimum_size == max(weights.meta["min_size"])
    assert row.family == models.get_model_builder(name).__module__.rsplit(".", 1)[1]
    statistics = (HALF, HALF) if row.family in ("googlenet", "inception") else (tuple(preset.mean), tuple(preset.std))
    assert (row.mean, row.std) == statistics


@pytest.mark.parametrize("name", BACKBONES)
def test_each_file_name_ends_with_at_least_8_digits_of_the_hash(name):
    digits = backbone(name).weights_file.removesuffix(".pth").rpartition("-")[2]
    assert len(digits) >= 8
    assert set(digits) <= set("0123456789abcdef")


def test_an_unknown_backbone_is_rejected_with_the_nearest_name():
    with pytest.raises(ConfigError, match=r"unknown backbone 'resnet19'; did you mean 'resnet1"):
        backbone("resnet19")
