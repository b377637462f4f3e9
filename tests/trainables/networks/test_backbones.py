import pytest
from torchvision import models

from trainables.errors import ConfigError
from trainables.networks.backbones import BACKBONES, HALF, backbone

NOT_PURELY_CONVOLUTIONAL = ("maxvit", "swin", "vit")


def test_the_table_has_every_convolutional_network_of_torchvision():
    names = [name for name in models.list_models(module=models) if not name.startswith(NOT_PURELY_CONVOLUTIONAL)]
    assert sorted(BACKBONES) == names
    assert len({row.family for row in BACKBONES.values()}) == 14


@pytest.mark.parametrize("name", BACKBONES)
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
