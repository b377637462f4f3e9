from itertools import product

import pytest

from search.config_reader import read_config
from search.presets.reading import NAMES, read_preset, trains_on_gpus
from trainables.errors import ConfigError
from trainables.networks.backbones import check_image_size

DEVICES = {"cpu": "resources.gpus_per_trial=0", "gpu": "resources.gpus_per_trial=1"}


def test_the_presets_are_those_that_the_setting_names():
    assert NAMES == ("balanced", "best", "quick")


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", NAMES)
def test_each_preset_names_known_backbones_that_take_its_image_sizes(name, device):
    preset = getattr(read_preset(name), device)
    for backbone, size in product(preset.backbones, preset.image_size):
        check_image_size(backbone, size)
    config = read_config(None, {"preset": name}, (DEVICES[device],))
    assert (config.preset, config.backbones, config.image_size) == (name, preset.backbones, preset.image_size)
    assert config.budget.trials == preset.trials


@pytest.mark.parametrize("device", DEVICES)
def test_a_larger_preset_has_more_trials_and_larger_images(device):
    quick, balanced, best = (getattr(read_preset(name), device) for name in ("quick", "balanced", "best"))
    assert quick.trials < balanced.trials < best.trials
    assert max(quick.image_size) < max(balanced.image_size) <= max(best.image_size)


@pytest.mark.parametrize(
    ("options", "settings", "backbones", "image_size", "trials"),
    [
        ({}, (), ("efficientnet_lite0",), (96,), 8),
        ({"trials": 3}, (), ("efficientnet_lite0",), (96,), 3),
        ({"trials": 12}, (), ("efficientnet_lite0",), (96,), 12),  # the default, but given
        ({"image_size": 64}, (), ("efficientnet_lite0",), (64,), 8),
        ({}, ("image_size=[64, 96]",), ("efficientnet_lite0",), (64, 96), 8),
        ({}, ("backbones=[resnet18]", "budget.time=5m"), ("resnet18",), (96,), 8),
        ({}, ("space.backbone=resnet18",), (), (96,), 8),
    ],
)
def test_a_preset_sets_only_what_is_not_given(options, settings, backbones, image_size, trials):
    config = read_config(None, {"preset": "quick"} | options, (DEVICES["cpu"], *settings))
    assert (config.backbones, config.image_size, config.budget.trials) == (backbones, image_size, trials)
    assert config.budget.time == (300 if "budget.time=5m" in settings else None)


def test_the_device_chooses_between_the_two_halves_of_a_preset():
    quick = read_preset("quick")
    assert quick.cpu.trials != quick.gpu.trials
    for settings, half in {
        ("resources.gpus_per_trial=0", "resources.address=10.0.0.1:6379"): quick.cpu,
        ("resources.address=10.0.0.1:6379",): quick.gpu,
        ("resources_per_trial={gpu: 0.5}",): quick.gpu,
        ("resources_per_trial={gpu: '0'}",): quick.cpu,
    }.items():
        assert read_config(None, {"preset": "quick"}, settings).budget.trials == half.trials
    assert not trains_on_gpus(0, None)


def test_an_unknown_preset_is_refused_with_the_nearest_name():
    for read in (read_preset, lambda name: read_config(None, {"preset": name})):
        with pytest.raises(ConfigError, match="unknown preset 'balancd'; did you mean 'balanced'"):
            read("balancd")
    with pytest.raises(ConfigError, match=r"unknown preset '\.\./best'"):
        read_preset("../best")
