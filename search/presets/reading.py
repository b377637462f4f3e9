"""Reads presets: the YAML files beside this module, each with backbones, image sizes and a number of trials for CPUs and for GPUs."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from trainables.config import Model, read_yaml, validate
from trainables.errors import ConfigError, did_you_mean

FOLDER = Path(__file__).parent
NAMES = tuple(sorted(path.stem for path in FOLDER.glob("*.yaml")))


class PresetSettings(Model):
    """What a preset sets on one kind of device."""

    backbones: tuple[str, ...] = Field(min_length=1)
    image_size: int | tuple[int, ...]
    trials: int = Field(ge=1)


class Preset(Model):
    """A preset: its settings for trials on CPUs and for trials on GPUs."""

    cpu: PresetSettings
    gpu: PresetSettings


def read_preset(name: str) -> Preset:
    """Return the preset of this name. Raises ``ConfigError`` for an unknown name."""
    if name not in NAMES:
        raise ConfigError(f"unknown preset {name!r}{did_you_mean(name, NAMES)}")
    return validate(Preset, read_yaml(FOLDER / f"{name}.yaml"), f"preset {name}")


def preset_values(name: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a preset adds to a configuration's `values`: the settings among `backbones`, `image_size` and `budget` that they lack.

    Raises ``ConfigError`` for an unknown name.
    """
    preset, budget = read_preset(name), dict(values.get("budget") or {})
    resources = dict(values.get("resources") or {})
    chosen = preset.gpu if trains_on_gpus(resources.get("gpus_per_trial"), resources.get("address")) else preset.cpu
    own = {"backbones": list(chosen.backbones), "image_size": chosen.image_size}
    return {key: value for key, value in own.items() if not values.get(key)} | {"budget": {"trials": chosen.trials} | budget}


def trains_on_gpus(gpus_per_trial: float | None, address: str | None) -> bool:
    """Return whether the trials of a search will run on GPUs.

    It follows from `gpus_per_trial`. If that is None, trials on a cluster are taken to have GPUs, and trials here have them if torch finds
    one.
    """
    if gpus_per_trial is not None:
        return gpus_per_trial > 0
    if address is not None:
        return True
    import torch

    return torch.cuda.is_available()
