"""Builds a `SearchConfig` from a YAML file or a data path, options and ``key=value`` texts; changes that of a search that is resumed."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from search.config import SearchConfig
from search.presets.reading import with_preset
from trainables.config import Recipe, TrialConfig, read_yaml, validate
from trainables.errors import ConfigError, did_you_mean

SHORTHANDS: dict[str, str] = {
    "name": "name",
    "trials": "budget.trials",
    "time_budget": "budget.time",
    "gpu_hours": "budget.gpu_hours",
    "target": "budget.target",
    "no_improvement": "budget.no_improvement",
    "task": "data.task",
    "strict": "data.strict",
    "seed": "seed",
    "storage": "storage",
    "output": "output",
    "root": "root",
    "preset": "preset",
    "weights": "weights",
    "metric": "algorithm.metric",
    "image_size": "image_size",
    "address": "resources.address",
    "max_concurrent_trials": "resources.max_concurrent_trials",
}
"""Option of the command line and of `run` → its key in the file."""
PER_TRIAL = {"cpu": "cpus_per_trial", "gpu": "gpus_per_trial", "accelerator_type": "accelerator_type", "custom": "custom"}
"""Key of the section ``resources_per_trial`` → the key of the section `resources` that has the same meaning."""
CHANGEABLE = ("budget", "keep", "resources")
"""The sections that may change when a search is resumed, because they change no trial."""


def read_config(source: str | Path | None, options: Mapping[str, Any], settings: tuple[str, ...] = ()) -> SearchConfig:
    """Build a configuration from a YAML file or a data path, then options, then ``key=value`` settings; later values replace earlier ones.

    A `source` that does not end in ``.yaml`` or ``.yml`` becomes ``data.source``. `options` has keys of `SHORTHANDS`; a value of None
    counts as not given. Raises ``ConfigError``, with the key's name, for an unknown key, a value that does not fit, or a file that cannot
    be read.
    """
    values: dict[str, Any] = {}
    where = "the options"
    if source is not None and str(source).endswith((".yaml", ".yml")):
        values, where = read_yaml(source), str(source)
    elif source is not None:
        _set_key(values, "data.source", str(source))
    for option, value in options.items():
        if option not in SHORTHANDS:
            raise ConfigError(f"unknown option {option!r}{did_you_mean(option, SHORTHANDS)}")
        if value is not None:
            _set_key(values, SHORTHANDS[option], value)
    for setting in settings:
        _apply_setting(values, setting)
    _refuse_trial_keys(values, where)
    _move_resources_per_trial(values)
    return with_preset(validate(SearchConfig, values, where))


def change_settings(config: SearchConfig, settings: tuple[str, ...]) -> SearchConfig:
    """Return the configuration of a study that is resumed, with ``key=value`` settings applied to its budget, keep and resources.

    Raises ``ConfigError`` for a key of any other section, or a value that does not fit.
    """
    values = config.model_dump(mode="json")
    for setting in settings:
        key = setting.partition("=")[0]
        if key.partition(".")[0] not in CHANGEABLE:
            raise ConfigError(f"--set {key}: a resumed search can change only budget, keep and resources; start a new search for the rest")
        _apply_setting(values, setting)
    return validate(SearchConfig, values, "--set") if settings else config


def _refuse_trial_keys(values: Mapping[str, Any], where: str) -> None:
    """Raise ``ConfigError`` for a recipe of one trial, such as ``best.yaml``, and for a trial's field outside of `space`.

    `where` names the source of the values in the message.
    """
    if "trial" in values and "data" in values and set(values) <= set(Recipe.model_fields):
        raise ConfigError(f"{where} is one configuration, not a search; train it with: injerto train {where}")
    for name in TrialConfig.model_fields:
        if name in values and name not in SearchConfig.model_fields:
            raise ConfigError(f"unknown key {name!r}; did you mean 'space.{name}'?")


def _move_resources_per_trial(values: dict[str, Any]) -> None:
    """Move ``resources_per_trial: {cpu, gpu, accelerator_type, custom}``, as users of Ray write it, into `resources`, in place.

    Raises ``ConfigError`` if it is not a mapping or has another key.
    """
    per_trial = values.pop("resources_per_trial", None)
    if per_trial is None:
        return
    if not isinstance(per_trial, dict):
        raise ConfigError(f"resources_per_trial takes {', '.join(PER_TRIAL)} but got {per_trial!r}")
    for name, value in per_trial.items():
        if name not in PER_TRIAL:
            raise ConfigError(f"unknown key 'resources_per_trial.{name}'{did_you_mean(name, PER_TRIAL)}")
        _set_key(values, f"resources.{PER_TRIAL[name]}", value)


def _apply_setting(values: dict[str, Any], setting: str) -> None:
    key, equals, text = setting.partition("=")
    if not equals or not key:
        raise ConfigError(f"--set takes key=value, such as space.learning_rate.high=0.01, but got {setting!r}")
    try:
        _set_key(values, key.strip(), yaml.safe_load(text))
    except yaml.YAMLError:
        raise ConfigError(f"--set {key}: {text!r} is not a plain value") from None


def _set_key(values: dict[str, Any], key: str, value: Any) -> None:
    """Set a dotted key in nested dictionaries, in place. A section that is missing or no dictionary becomes an empty one first."""
    *sections, last = key.split(".")
    for section in sections:
        inner = values.setdefault(section, {})
        if not isinstance(inner, dict):
            inner = values[section] = {}
        values = inner
    values[last] = value
