"""Every setting of a search, in one frozen object, `SearchConfig`; `config_reader` builds it from files and options. Light to import."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, Field, field_validator
from pydantic.fields import FieldInfo

from cluster.study_name import STUDY_NAME_RULE, is_study_name
from search.durations import parse_seconds
from trainables.config import DataConfig, Model
from trainables.storage.byte_sizes import parse_bytes

SMALLEST_SHARE = 0.0001
"""Ray's smallest amount of a resource."""
EARLY_STOPPING = frozenset({"asha"})
"""The schedulers that stop weak trials at rungs, the levels of successive halving; `policy.schedulers` builds them."""


def parse_size(value: Any) -> Any:
    """Return a size such as ``500MB`` or ``20 GB`` as a number of bytes. A value that is not a string is returned unchanged.

    Raises ``ValueError`` for a string that is no size, and for true and false.
    """
    if isinstance(value, bool):
        raise ValueError(f"must be a size such as 20GB but got {str(value).lower()}")
    return parse_bytes(value) if isinstance(value, str) else value


def as_list(value: Any) -> Any:
    """Return a single value as a list of it. A list or tuple is returned unchanged."""
    return value if isinstance(value, list | tuple) else [value]


def check_study_name(value: Any) -> Any:
    """Return a study name unchanged. Raises ``ValueError`` for a string that is not safe as a folder, in a URL and on a command line.

    A value that is not a string is returned unchanged: pydantic checks its type afterwards.
    """
    if isinstance(value, str) and not is_study_name(value):
        raise ValueError(f"must be {STUDY_NAME_RULE}")
    return value


Seconds = Annotated[float, BeforeValidator(parse_seconds), Field(gt=0)]
Bytes = Annotated[float, BeforeValidator(parse_size), Field(gt=0)]
ImageSize = Annotated[int, Field(ge=16, le=1024)]
ImageSizes = Annotated[tuple[ImageSize, ...], BeforeValidator(as_list), Field(min_length=1, max_length=8)]
StudyName = Annotated[str, BeforeValidator(check_study_name)]


class Budget(Model):
    """When a search ends; the first limit that is reached ends it."""

    trials: int = Field(12, ge=1, description="trials to run, the default recipe among them")
    time: Seconds | None = Field(None, description="wall clock, seconds or 30m, 2h; running trials end at their next epoch")
    gpu_hours: float | None = Field(None, gt=0, description="hours of GPU, summed over trials, each by its share of a GPU")
    target: float | None = Field(None, description="value of the metric that is good enough; the search ends once a trial reaches it")
    no_improvement: int | None = Field(None, ge=1, description="trials in a row without a better value, after which the search ends")

    @property
    def gpu_seconds(self) -> float | None:
        """The limit of `gpu_hours` in seconds, None if there is none."""
        return None if self.gpu_hours is None else 3600 * self.gpu_hours


class Keep(Model):
    """How many trials' states (checkpoints) are kept after the trials have ended, and how much disk space they may take."""

    best: int = Field(3, ge=1, description="trials whose states are kept over the whole study, the default recipe's besides")
    disk: Bytes | None = Field(None, description="room for all trials' states, bytes or 500MB, 20GB; fewer are kept where it is short")


class Resources(Model):
    """The CPUs, GPUs and other resources of each trial, and the Ray cluster that provides them."""

    address: str | None = Field(None, description="Ray cluster to join, host:port or auto; a Ray of its own on this machine by default")
    cpus_per_trial: int | None = Field(None, ge=1, description="CPU threads of a trial; 1, or an even share where there are GPUs")
    gpus_per_trial: float | None = Field(
        None, ge=0, le=1024, description="a share of a GPU, or 2 and more for one trial across several; 1 where there are GPUs, else 0"
    )
    accelerator_type: str | None = Field(None, description="type of GPU as Ray names it, such as T4, A100 or H100; any by default")
    custom: dict[str, Annotated[float, Field(ge=SMALLEST_SHARE)]] = Field(
        {}, description="amounts of your cluster's own resources that a trial needs"
    )
    ship_up_to: Annotated[float, BeforeValidator(parse_size), Field(ge=0)] = Field(
        200e6,
        description="data whose decoded images are at most this large is sent to a cluster's nodes decoded; larger data each node reads",
    )
    sync_batch_norm: bool = Field(False, description="one trial across several GPUs: batch norm over the whole batch, not each GPU's part")
    feature_cache: Bytes | None = Field(
        None,
        description="room on a node for activations behind frozen stages, bytes or 10GB; a fifth of the free disk by default",
    )
    max_concurrent_trials: int | None = Field(None, ge=1, description="trials at a time; as many as fit by default")
    may_grow: bool = Field(False, description="whether the cluster adds nodes on demand; if so, a search waits for what no node has yet")

    @field_validator("gpus_per_trial")
    @classmethod
    def _share_or_whole_number(cls, value: float | None) -> float | None:
        if value is not None and value > 1 and value != int(value):
            raise ValueError(f"must be a share up to 1 or a whole number but got {value:g}")
        if value is not None and 0 < value < SMALLEST_SHARE:
            raise ValueError(f"must be 0 or at least {SMALLEST_SHARE:.4f}, Ray's finest share, but got {value:g}")
        return value


class Algorithm(Model):
    """The sampler that proposes trials, the scheduler that stops weak ones, and the metric that the search optimizes."""

    sampler: Literal["tpe", "random"] = Field("tpe", description="Optuna sampler")
    scheduler: Literal["asha", "none"] = Field("asha", description="whether weak trials are stopped at rungs of their own schedule")
    reduction_factor: int = Field(3, ge=2, le=10, description="at a rung, one trial in this many continues")
    metric: str | None = Field(None, description="metric to optimize; the task's own by default")

    @property
    def stops_early(self) -> bool:
        """Whether the scheduler stops weak trials at rungs."""
        return self.scheduler in EARLY_STOPPING


class SearchConfig(Model):
    """All settings of one search."""

    name: StudyName | None = Field(None, description="study name; a fresh readable one by default")
    data: DataConfig = DataConfig()
    preset: str | None = Field(None, description="quick, balanced or best: sets backbones, image_size and trials that are not given")
    weights: str = Field("imagenet", description="imagenet (each backbone's pretrained weights), none, or a file of weights")
    image_size: ImageSizes | None = Field(
        None, description="side of the square images that the network sees, pixels; a list is searched; by rule by default"
    )
    aspect: Literal["crop", "pad", "squash"] = Field("crop", description="how a picture becomes a square")
    backbones: tuple[str, ...] = Field(
        (), max_length=8, description="networks to choose from, torchvision's names or timm:NAME; by default those at hand"
    )
    space: dict[str, Any] = Field({}, description="parameter: a value fixes it, a list or {low, high, log, step} narrows or widens it")
    budget: Budget = Budget()
    resources: Resources = Resources()
    algorithm: Algorithm = Algorithm()
    keep: Keep = Keep()
    refit: bool | None = Field(
        None, description="at the end, train the winner again on training and validation images, and export it; by default if it has folds"
    )
    seed: int = Field(0, ge=0, le=2**32 - 1, description="seed of the search and, with the trial's number, of each trial")
    storage: str | None = Field(None, description="Optuna storage URL; INJERTO_STORAGE or a SQLite file of your own by default")
    output: Path = Field(Path("injerto-output"), description="folder for results; each study gets a folder of its own inside")
    root: str | None = Field(
        None, description="where states and artifacts are kept: a folder or s3://bucket/prefix; each study's output folder by default"
    )


def find_setting(model: type[BaseModel], key: str) -> FieldInfo:
    """Return the pydantic field of an existing setting of `model`; `key` has dots, such as ``budget.trials`` of `SearchConfig`."""
    section, _, rest = key.partition(".")
    field = model.model_fields[section]
    if not rest:
        return field
    assert isinstance(field.annotation, type)
    assert issubclass(field.annotation, BaseModel)
    return find_setting(field.annotation, rest)
