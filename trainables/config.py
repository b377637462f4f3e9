"""The configuration of one trial and of its data, and functions that read, check and write it as YAML. Light to import."""

from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from trainables.errors import ConfigError, ResourceError, did_you_mean
from trainables.head_layers import EXAMPLE, read_layers
from trainables.storage.atomic_write import atomic_write

TaskName = Literal["regression", "binary", "multiclass", "multilabel"]
Aspect = Literal["crop", "pad", "squash"]
Initializer = Literal[
    "xavier_uniform", "xavier_normal", "kaiming_uniform", "kaiming_normal", "orthogonal", "trunc_normal", "zeros_last", "default"
]
Activation = Literal["relu", "gelu", "silu", "tanh"]
OptimizerName = Literal["adamw", "sgd", "rmsprop"]
ScheduleName = Literal["cosine", "one_cycle", "step", "constant"]
LossName = Literal["cross_entropy", "binary_cross_entropy", "mse", "mae", "huber", "mape"]
TargetScaleName = Literal["linear", "log"]
ClassBalance = Literal["none", "loss", "sampling"]
AugmentationOp = Literal["crop", "flip", "vertical_flip", "affine", "color", "noise", "trivial", "dropout"]

AUGMENTATION_OPS: tuple[AugmentationOp, ...] = ("crop", "flip", "affine", "color", "noise", "dropout")
REPLACED_BY_HEAD = ("head_layers", "head_units", "activation", "dropout")
"""Fields of `TrialConfig` that have no effect where `head` lists the layers."""
EXPECTED = {
    "tuple_type": "must be a list",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "int_type": "must be a whole number",
    "float_parsing": "must be a number",
    "float_type": "must be a number",
    "bool_parsing": "must be true or false",
    "bool_type": "must be true or false",
    "string_type": "must be a text",
    "model_type": "must hold keys and values",
    "dict_type": "must hold keys and values",
}
"""Pydantic's type of an error → what the value has to be, for a user; the others keep pydantic's words."""
UNUSUAL_LINE_BREAKS = {"\x85", "\u2028", "\u2029"}
Share = Annotated[float, Field(ge=0, le=1)]


class Model(BaseModel):
    """Base class of configurations, which are frozen.

    A configuration rejects unknown keys, infinity and NaN. A number becomes text where text is wanted.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False, coerce_numbers_to_str=True)


AnyModel = TypeVar("AnyModel", bound=Model)


class DataConfig(Model):
    """Where the labelled images are, how to read them, and how to split them."""

    source: str = Field(
        "builtin:digits", description="an image folder, a CSV file, a folder that holds one CSV, an s3:// URL of these, or builtin:digits"
    )
    task: TaskName | None = Field(None, description="the task; inferred from the labels if not given")
    image_column: str | None = Field(None, description="CSV column of image paths; a 0-based number if there is no header")
    label_columns: tuple[str, ...] = Field((), description="CSV column of the label or target; several 0/1 columns for multilabel")
    header: bool = Field(True, description="whether the CSV's first line names its columns")
    extension: str = Field("", description="appended to image names without one, such as '.jpg'")
    strip_prefix: str = Field("", description="leading part to remove from the image paths, such as another machine's folder")
    image_folder: str | None = Field(None, description="folder that image paths are relative to; the CSV's own folder by default")
    split_column: str = Field("split", description="CSV column that names each image's split, if there is one")
    group_column: str = Field("group", description="CSV column of groups, if there is one; a group's images are all in one split")
    classes: tuple[str, ...] = Field(
        (), description="class or label names in the order of the outputs; sorted by default, the positive one last"
    )
    positive: str | None = Field(None, description="binary: the class whose probability the network gives; the rarer one by default")
    outside_paths: bool = Field(False, description="whether CSV rows may name images outside of the image folder")
    seed: int = Field(0, ge=0, le=2**32 - 1, description="seed of the split into training, validation and test")
    strict: bool = Field(False, description="reject a data set with unreadable or contradicting images instead of leaving them out")

    @field_validator("positive", "classes", mode="before")
    @classmethod
    def _names_are_text(cls, value: object) -> object:
        names = value if isinstance(value, list | tuple) else (value,)
        if any(isinstance(name, bool) for name in names):
            raise ValueError("YAML reads yes, no, true and false as truth values; put quotes around such a name: 'yes'")
        return value


class TrialConfig(Model):
    """Every hyperparameter of one trial."""

    backbone: str = Field("efficientnet_lite0", description="efficientnet_lite0, a torchvision CNN, or timm: and the name of a timm model")
    weights: str = Field("imagenet", description="imagenet (the backbone's pretrained weights), none, or a file of weights")
    image_size: int = Field(64, ge=16, le=1024, description="side of the square that the network sees, pixels")
    evaluation_size: int | None = Field(
        None, description="side of the square for evaluation, pixels, up to 8/7 of image_size; image_size by default"
    )
    aspect: Aspect = Field("crop", description="how an image becomes a square: crop its middle, pad it, or squash it")
    unfrozen_stages: int = Field(3, ge=0, description="stages that train, counted from the head down; 0 trains the head alone")
    reinit_stages: int = Field(
        0, ge=0, description="last stages that begin anew instead of pretrained, at most those that train; head_epochs is then unused"
    )
    stage_lr_decay: float = Field(1.0, gt=0, le=1, description="factor on the learning rate for each stage further from the head")
    head_epochs: int = Field(20, ge=0, le=1000, description="passes over frozen features that train the head before the first epoch")
    freeze_steps: Share = Field(0.0, description="share of the schedule during which the body stays frozen; its warm-up begins then")
    head: tuple[str, ...] | None = Field(
        None, description=f"the head as a list of layers, such as {EXAMPLE}, instead of the next four fields"
    )
    head_layers: int = Field(0, ge=0, le=3, description="hidden layers of the head; 0 is one linear layer")
    head_units: int = Field(256, ge=8, le=8192, description="neurons of each hidden layer")
    activation: Activation = Field("relu", description="activation of the hidden layers")
    dropout: float = Field(0.2, ge=0, lt=1, description="dropout before each linear layer of the head")
    initializer: Initializer = Field("trunc_normal", description="initializer of the weights of the head and of reinit_stages")
    loss: LossName | None = Field(None, description="training loss; the task's first by default")
    target: TargetScaleName = Field("linear", description="regression: train on the target or on its logarithm (positive skew)")
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="share of the target spread over all classes (multiclass)")
    class_balance: ClassBalance = Field("none", description="unequal classes: weigh them in the training loss, or draw them equally often")
    mixup: float = Field(0.0, ge=0, le=10, description="alpha of MixUp, which mixes pairs of training images and their classes; 0 is off")
    cutmix: float = Field(0.0, ge=0, le=10, description="alpha of CutMix, which pastes a part of one training image into another; 0 is off")
    optimizer: OptimizerName = Field("adamw", description="optimizer")
    learning_rate: float = Field(1e-3, gt=0, le=10, description="peak learning rate of the head")
    momentum: float = Field(0.9, ge=0, lt=1, description="momentum (sgd, rmsprop); Nesterov's for sgd")
    weight_decay: float = Field(1e-2, ge=0, le=1, description="weight decay; never on biases and norms")
    l2_sp: float = Field(0.0, ge=0, le=100, description="decay of the body to its pretrained weights, instead of weight_decay; 0 is off")
    ema: float = Field(
        0.0, ge=0, lt=1, description="decay, each step, of an average of the weights that evaluation and export use; 0 is off"
    )
    schedule: ScheduleName = Field("cosine", description="shape of the learning rate over the trial's own steps")
    warmup: Share = Field(0.1, description="share of the steps over which the rate rises linearly from 0")
    clip_norm: float = Field(1.0, ge=0, description="largest norm of the gradient; 0 does not clip")
    epochs: int = Field(10, ge=1, le=1000, description="reported epochs; each is one pass or, in small sets, as many as make 20 steps")
    batch_size: int = Field(32, ge=2, le=8192, description="images a step; at most a quarter of the training images")
    folds: int = Field(
        0, ge=0, le=20, description="cross-validate: train a network for each fold of training and validation images, 2 to 20; 0 is off"
    )
    accumulation: int = Field(1, ge=1, le=64, description="micro-batches a step")
    augmentation_strength: Share = Field(0.25, description="scale of the whole augmentation; 0 is none")
    augmentation_ops: tuple[AugmentationOp, ...] = Field(AUGMENTATION_OPS, description="which may be used; trivial is TrivialAugment")
    flip_average: bool = Field(False, description="whether evaluation averages the logits of an image and its mirror image; needs flip")
    views: int = Field(
        0,
        ge=0,
        le=1000,
        description="augmented views of each training image whose frozen part is computed once a node; 0: new every epoch",
    )
    seed: int = Field(0, ge=0, lt=2**63, description="seed of initialisation, batches, augmentation and dropout")

    @field_validator("head")
    @classmethod
    def _layers(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if value is not None:
            read_layers(value, get_args(Activation))
        return value

    @model_validator(mode="after")
    def _one_head(self) -> "TrialConfig":
        fields = type(self).model_fields
        unused = {name: getattr(self, name) for name in REPLACED_BY_HEAD if getattr(self, name) != fields[name].default}
        if self.head is not None and unused:
            named = ", ".join(f"{name}: {value}" for name, value in unused.items())
            raise ValueError(f"head lists all layers of the head, so {named} would have no effect; remove it, or remove head")
        return self

    @model_validator(mode="after")
    def _flip_is_allowed(self) -> "TrialConfig":
        if self.flip_average and "flip" not in self.augmentation_ops:
            raise ValueError(
                "flip_average averages an image and its mirror image, but augmentation_ops without flip says that a mirrored image is "
                "another one; add flip, or set flip_average: false"
            )
        return self

    @model_validator(mode="after")
    def _evaluation_is_not_smaller(self) -> "TrialConfig":
        if self.evaluation_size is not None and self.evaluation_size < self.image_size:
            raise ValueError(f"evaluation_size must be at least image_size, {self.image_size}, but got {self.evaluation_size}")
        return self

    @model_validator(mode="after")
    def _folds_end_with_the_last_epoch(self) -> "TrialConfig":
        if self.folds == 1:
            raise ValueError("folds must be at least 2, or 0 for none, but got 1")
        if self.folds and self.schedule == "constant":
            raise ValueError(
                "schedule: constant keeps the epoch that is best on the validation images, which differs from fold to fold; choose another "
                "schedule, or leave folds out"
            )
        return self

    @model_validator(mode="after")
    def _micro_batches(self) -> "TrialConfig":
        if self.batch_size % self.accumulation:
            raise ValueError(f"batch_size must be a multiple of accumulation but got {self.batch_size} and {self.accumulation}")
        return self


class Recipe(Model):
    """One configuration that can be rerun: what `best.yaml` holds."""

    study: str | None = Field(None, description="the study that found it")
    trial_number: int | None = Field(None, description="its number in that study")
    metric: str | None = Field(None, description="the metric it was chosen by; the task's own by default")
    value: float | None = Field(None, description="that metric on the validation images")
    epochs_done: int | None = Field(None, ge=1, description="epochs that the search trained it, where no trial was trained to its end")
    threads: int = Field(1, ge=1, description="CPU threads; the same number gives the same bits")
    fingerprint: str | None = Field(None, description="the data set it was trained on")
    refit: bool = Field(False, description="whether it trains on the training and the validation images")
    data: DataConfig = DataConfig()
    trial: TrialConfig = TrialConfig()


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Return the mapping in a YAML file, read without any tag that could run code.

    Raises ``ConfigError`` if the file is missing, is not YAML, has tags, or is not a mapping.
    """
    path = Path(path)
    try:
        value = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"no file {str(path)!r}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{str(path)!r} is not a text file; name a YAML file of settings, such as a best.yaml") from None
    except OSError as error:
        raise ConfigError(f"cannot read {str(path)!r}: {error.strerror or error}") from None
    except yaml.constructor.ConstructorError as error:
        raise ConfigError(f"{path} holds a YAML tag that is not plain data ({error.problem}); write plain keys and values") from None
    except RecursionError:
        raise ConfigError(f"{path} is nested too deeply for settings") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(value, dict):
        raise ConfigError(f"{path} must hold keys and values but holds {type(value).__name__}")
    return value


def write_yaml(path: str | Path, config: Model, header: str = "") -> None:
    """Write a configuration to a YAML file, the whole file or nothing. Each line of `header` becomes a comment at its top.

    Raises ``ResourceError`` if the file cannot be written.
    """
    path = Path(path)
    text = "".join(f"# {line}\n" for line in header.splitlines()) + to_yaml(config)
    try:
        with atomic_write(path) as file:
            file.write(text.encode())
    except OSError as error:
        raise ResourceError(f"cannot write {path}: {error.strerror}; is the disk full?") from None


def to_yaml(config: Model) -> str:
    """Return a configuration as YAML text. Keys keep the order of their declaration; those with the value None are left out."""
    values = config.model_dump(mode="json", exclude_none=True)
    readable: str = yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=120)
    if UNUSUAL_LINE_BREAKS.isdisjoint(readable):
        return readable
    return yaml.safe_dump(values, sort_keys=False, width=120)  # escapes the line breaks, which YAML readers would change otherwise


def validate(kind: type[AnyModel], values: dict[str, Any], where: str = "") -> AnyModel:
    """Return a configuration of the class `kind` with these values by key.

    Raises ``ConfigError`` with one line for each wrong key or value. `where` says in its first line what was read, such as a file's path.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        lines = [_explain(kind, dict(problem)) for problem in error.errors()]
        raise ConfigError("\n".join(([f"in {where}:"] if where else []) + lines)) from None


def _explain(kind: type[BaseModel], problem: dict[str, Any]) -> str:
    place = [part for part in problem["loc"] if isinstance(part, str)]
    key, owner = ".".join(place), _owner(kind, place[:-1])
    if problem["type"] == "extra_forbidden":
        return f"unknown key {key!r}" + did_you_mean(place[-1], owner.model_fields if owner else ())
    if problem["type"] == "literal_error":
        known = _literals(owner.model_fields[place[-1]].annotation) if owner and place[-1] in owner.model_fields else []
        return f"{key}: unknown {problem['input']!r}" + (did_you_mean(problem["input"], known) if known else f"; {problem['msg']}")
    message = EXPECTED.get(problem["type"]) or problem["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
    if problem["type"] != "value_error":  # messages of our own validators hold the value already
        message += f" but got {problem['input']!r}"
    if problem["type"] == "tuple_type" and isinstance(problem["input"], str):
        message += f"; write [{problem['input']}]"
    return f"{key}: {message}" if key else message


def _owner(kind: type[BaseModel], place: list[str]) -> type[BaseModel] | None:
    for part in place:
        field = kind.model_fields.get(part)
        inner = (
            [a for a in (field.annotation, *get_args(field.annotation)) if isinstance(a, type) and issubclass(a, BaseModel)]
            if field
            else []
        )
        if not inner:
            return None
        kind = inner[0]
    return kind


def _literals(annotation: Any) -> list[str]:
    if isinstance(annotation, str):
        return [annotation]
    return [word for part in get_args(annotation) for word in _literals(part)]
