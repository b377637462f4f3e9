"""Everything that a search is told, in one frozen object; YAML in and out, unknown keys refused."""

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BeforeValidator, Field, field_validator

from trainables.config import DataConfig, Model, TrialConfig, read_yaml, validate
from trainables.errors import ConfigError, did_you_mean

_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_BYTES = {"b": 1.0, "kb": 1e3, "mb": 1e6, "gb": 1e9, "tb": 1e12}
FINEST = 0.0001
STUDY_NAME = re.compile(r"[A-Za-z0-9._][A-Za-z0-9._-]{0,63}")


def seconds(value: Any) -> Any:
    """Read ``90``, ``"90s"``, ``"30m"``, ``"1.5h"`` as seconds; raises ``ValueError`` for anything else."""
    if not isinstance(value, str):
        return value
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*", value)
    if not found or found[2] not in _UNITS:
        raise ValueError("must be a number of seconds, or a number and s, m, h or d such as 30m")
    return float(found[1]) * _UNITS[found[2]]


def duration(option: str, value: str | None) -> float:
    """Return an option's seconds, 0 where it is not given. Raises ``ConfigError`` for what is no length of time."""
    try:
        found = float(seconds(value) if value is not None else 0.0)
    except ValueError as error:
        raise ConfigError(f"{option} {error} but got {value!r}") from None
    if value is not None and not 0 < found < math.inf:
        raise ConfigError(f"{option} must be more than 0 but got {value!r}")
    return found


def size(value: Any) -> Any:
    """Read ``500MB``, ``"20 GB"`` or a number as bytes; raises ``ValueError`` for anything else."""
    if not isinstance(value, str):
        return value
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?b)?\s*", value.lower())
    if not found:
        raise ValueError("must be a number of bytes, or a number and kB, MB, GB or TB such as 20GB")
    return float(found[1]) * _BYTES[found[2] or "b"]


def study_name(value: Any) -> Any:
    """Let through a name that is safe as a folder, in a URL and on a command line."""
    if isinstance(value, str) and (not STUDY_NAME.fullmatch(value) or value.strip(".") == ""):
        raise ValueError("must be 1 to 64 letters, digits, dots, underscores or hyphens, and begin with no hyphen")
    return value


Seconds = Annotated[float, BeforeValidator(seconds), Field(gt=0)]
Bytes = Annotated[float, BeforeValidator(size), Field(gt=0)]
StudyName = Annotated[str, BeforeValidator(study_name)]


class Budget(Model):
    """When a search ends; whatever is reached first."""

    trials: int = Field(12, ge=1, description="trials to run, the default recipe among them")
    time: Seconds | None = Field(None, description="wall clock, seconds or 30m, 2h; running trials end at their next epoch")
    gpu_hours: float | None = Field(None, gt=0, description="hours of GPU, summed over trials, each by its share of a GPU")
    target: float | None = Field(None, description="a value of the metric that is good enough")
    no_improvement: int | None = Field(None, ge=1, description="trials in a row that end without a better value")


class Keep(Model):
    """Which trials' states stay after they have ended."""

    best: int = Field(3, ge=1, description="trials whose states are kept over the whole study, the default recipe's besides")
    disk: Bytes | None = Field(None, description="room for all trials' states, bytes or 500MB, 20GB; fewer are kept where it is short")


class Resources(Model):
    """What each trial gets, and where."""

    address: str | None = Field(None, description="Ray cluster to join, host:port or auto; a Ray of its own on this machine by default")
    cpus_per_trial: int | None = Field(None, ge=1, description="processor threads of a trial; 1, or an even share where there are GPUs")
    gpus_per_trial: float | None = Field(
        None, ge=0, le=1024, description="a share of a GPU, or 2 and more for one trial across several; 1 where there are GPUs, else 0"
    )
    accelerator_type: str | None = Field(None, description="type of GPU as Ray names it, such as T4, A100 or H100; any by default")
    custom: dict[str, Annotated[float, Field(ge=FINEST)]] = Field(
        {}, description="amounts of your cluster's own resources that a trial needs"
    )
    ship_up_to: Annotated[float, BeforeValidator(size), Field(ge=0)] = Field(
        200e6, description="data whose decoded images are at most this large reach a cluster's nodes decoded; others each node reads"
    )
    sync_batch_norm: bool = Field(False, description="one trial across several GPUs: batch norm over the whole batch, not each GPU's part")
    max_concurrent_trials: int | None = Field(None, ge=1, description="trials at a time; as many as fit by default")
    may_grow: bool = Field(False, description="whether the cluster adds nodes on demand: then what no node has yet is waited for")

    @field_validator("gpus_per_trial")
    @classmethod
    def _whole(cls, value: float | None) -> float | None:
        if value is not None and value > 1 and value != int(value):
            raise ValueError(f"must be a share up to 1 or a whole number but got {value:g}")
        if value is not None and 0 < value < FINEST:
            raise ValueError(f"must be 0 or at least {FINEST:.4f}, Ray's finest share, but got {value:g}")
        return value


class Algorithm(Model):
    """How trials are proposed and stopped."""

    sampler: Literal["tpe", "random"] = Field("tpe", description="Optuna sampler")
    scheduler: Literal["asha", "none"] = Field("asha", description="whether weak trials are stopped at rungs of their own schedule")
    reduction_factor: int = Field(3, ge=2, le=10, description="one in how many goes on at a rung")
    metric: str | None = Field(None, description="metric to go by; the task's own by default")


class SearchConfig(Model):
    """A whole search."""

    name: StudyName | None = Field(None, description="study name; a fresh readable one by default")
    data: DataConfig = DataConfig()
    weights: str = Field("builtin", description="imagenet, builtin, none, or a .safetensors or .pth file")
    image_size: int | None = Field(None, ge=16, le=1024, description="side of the square that the network sees, pixels; by rule by default")
    aspect: Literal["crop", "pad", "squash"] = Field("crop", description="how a picture becomes a square")
    backbones: tuple[str, ...] = Field(
        (), max_length=3, description="torchvision CNNs to choose from, at most 3; those that the weights allow by default"
    )
    space: dict[str, Any] = Field({}, description="parameter: a value fixes it, a list or {low, high, log, step} narrows or widens it")
    budget: Budget = Budget()
    resources: Resources = Resources()
    algorithm: Algorithm = Algorithm()
    keep: Keep = Keep()
    seed: int = Field(0, ge=0, le=2**32 - 1, description="seed of the search and, with the trial's number, of each trial")
    storage: str | None = Field(None, description="Optuna storage URL; INJERTO_STORAGE or a file of your own by default")
    output: Path = Field(Path("injerto-output"), description="folder; each study gets one of its own inside")
    root: str | None = Field(
        None, description="where states and artifacts are kept: a folder or s3://bucket/prefix; each study's output folder by default"
    )


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
    "weights": "weights",
    "metric": "algorithm.metric",
    "image_size": "image_size",
    "address": "resources.address",
    "max_concurrent_trials": "resources.max_concurrent_trials",
}
"""Option of the command line and of `run` → its key in the file."""
PER_TRIAL = {"cpu": "cpus_per_trial", "gpu": "gpus_per_trial", "accelerator_type": "accelerator_type", "custom": "custom"}
"""Key of `resources_per_trial` → the key of `resources` that it stands for."""


def read_config(source: str | Path | None, options: Mapping[str, Any], settings: tuple[str, ...] = ()) -> SearchConfig:
    """Build a configuration from a YAML file or a data path, then options, then ``key=value`` settings, each over the one before.

    Raises ``ConfigError`` for anything that does not fit, naming the key.
    """
    values: dict[str, Any] = {}
    where = "the options"
    if source is not None and str(source).endswith((".yaml", ".yml")):
        values, where = read_yaml(source), str(source)
    elif source is not None:
        _put(values, "data.source", str(source))
    for option, value in options.items():
        if option not in SHORTHANDS:
            raise ConfigError(f"unknown option {option!r}{did_you_mean(option, SHORTHANDS)}")
        if value is not None:
            _put(values, SHORTHANDS[option], value)
    for setting in settings:
        _set(values, setting)
    _refuse_best(values, where)
    _spread(values)
    return validate(SearchConfig, values, where)


def amended(config: SearchConfig, settings: tuple[str, ...]) -> SearchConfig:
    """Return a study's configuration with ``key=value`` settings over it, of those that change no trial: budget, keep and resources.

    Raises ``ConfigError`` for any other key, or a value that does not fit.
    """
    values = config.model_dump(mode="json")
    for setting in settings:
        key = setting.partition("=")[0]
        if key.partition(".")[0] not in ("budget", "keep", "resources"):
            raise ConfigError(f"--set {key}: a search that goes on can change budget, keep and resources; start a new one for the rest")
        _set(values, setting)
    return validate(SearchConfig, values, "--set") if settings else config


def _refuse_best(values: Mapping[str, Any], where: str) -> None:
    if (
        "trial" in values
        and "data" in values
        and set(values) <= {"study", "trial_number", "metric", "value", "threads", "fingerprint", "data", "trial"}
    ):
        raise ConfigError(f"{where} is one configuration, not a search; train it with: injerto train {where}")
    for name in TrialConfig.model_fields:
        if name in values and name not in SearchConfig.model_fields:
            raise ConfigError(f"unknown key {name!r}; did you mean 'space.{name}'?")


def _spread(values: dict[str, Any]) -> None:
    """Take ``resources_per_trial: {cpu, gpu, accelerator_type, custom}``, as Ray's users write it, for what `resources` says of a trial."""
    per_trial = values.pop("resources_per_trial", None)
    if per_trial is None:
        return
    if not isinstance(per_trial, dict):
        raise ConfigError(f"resources_per_trial takes {', '.join(PER_TRIAL)} but got {per_trial!r}")
    for name, value in per_trial.items():
        if name not in PER_TRIAL:
            raise ConfigError(f"unknown key 'resources_per_trial.{name}'{did_you_mean(name, PER_TRIAL)}")
        _put(values, f"resources.{PER_TRIAL[name]}", value)


def _set(values: dict[str, Any], setting: str) -> None:
    key, equals, text = setting.partition("=")
    if not equals or not key:
        raise ConfigError(f"--set takes key=value, such as space.learning_rate.high=0.01, but got {setting!r}")
    try:
        _put(values, key.strip(), yaml.safe_load(text))
    except yaml.YAMLError:
        raise ConfigError(f"--set {key}: {text!r} is not a plain value") from None


def _put(values: dict[str, Any], key: str, value: Any) -> None:
    *path, last = key.split(".")
    for part in path:
        inner = values.setdefault(part, {})
        if not isinstance(inner, dict):
            inner = values[part] = {}
        values = inner
    values[last] = value
