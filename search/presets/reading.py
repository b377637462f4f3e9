"""Reads presets: the YAML files beside this module, each with backbones, image sizes and a number of trials for CPUs and for GPUs."""

from pathlib import Path

from pydantic import Field

from search.config import ImageSizes, SearchConfig
from trainables.config import Model, read_yaml, validate
from trainables.errors import ConfigError, did_you_mean

FOLDER = Path(__file__).parent
NAMES = tuple(sorted(path.stem for path in FOLDER.glob("*.yaml")))


class PresetSettings(Model):
    """What a preset sets on one kind of device."""

    backbones: tuple[str, ...] = Field(min_length=1)
    image_size: ImageSizes
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


def with_preset(config: SearchConfig) -> SearchConfig:
    """Return the configuration with the backbones, image sizes and number of trials of its preset, where it does not give its own.

    Raises ``ConfigError`` for an unknown preset. A configuration without a preset is returned unchanged.
    """
    if config.preset is None:
        return config
    preset, resources, budget = read_preset(config.preset), config.resources, config.budget
    chosen = preset.gpu if trains_on_gpus(resources.gpus_per_trial, resources.address) else preset.cpu
    pool = () if "backbone" in config.space else chosen.backbones
    trials = budget.trials if "trials" in budget.model_fields_set else chosen.trials
    own = {"backbones": config.backbones or pool, "image_size": config.image_size or chosen.image_size}
    return config.model_copy(update={**own, "budget": budget.model_copy(update={"trials": trials})})


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
