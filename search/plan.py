"""A search made ready: data prepared, weights checked, space built; everything that can be refused is refused here."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np

from search.config import SearchConfig
from search.space.space import Space, build_space, default_parameters
from trainables.config import AUGMENTATION_OPS, AugmentationOp, TrialConfig
from trainables.data.dataset import Dataset, prepare
from trainables.errors import ConfigError, DataError, InjertoError
from trainables.networks.backbones import backbone, check_image_size
from trainables.networks.weights import builtin_backbones, check_weights
from trainables.objectives import DIRECTIONS, check_targets, objective
from trainables.recipe import default_recipe, largest_batch
from trainables.storage.locations import check_url, is_url

Progress = Callable[[int, int, str], None]
BACKBONES = {
    "builtin": builtin_backbones(),
    "imagenet": ("mobilenet_v3_large", "resnet18", "efficientnet_b0"),
    "none": ("mobilenet_v3_small", "resnet18"),
}
"""Kind of weights → the backbones that are searched where none are named."""
FILE_BACKBONE = "mobilenet_v3_small"
SETTINGS = ("weights", "image_size", "aspect", "seed")
"""Fields of a trial that a search sets for all its trials."""


@dataclass(frozen=True)
class Plan:
    """What a search is about to do."""

    config: SearchConfig
    dataset: Dataset
    metric: str
    space: Space
    manifest: str | None = None  # location of the data's manifest, where nodes have been made ready with it

    @property
    def mode(self) -> str:
        """Whether the metric is to be ``max`` or ``min``."""
        return DIRECTIONS[self.metric]

    def assigned(self, number: int, trial: TrialConfig) -> TrialConfig:
        """Return a trial's configuration with a seed of its own."""
        return trial.model_copy(update={"seed": self.config.seed * 100_003 + number})

    def dataset_facts(self) -> dict[str, object]:
        """Return what the record says of the data set."""
        data = self.dataset
        return {
            "fingerprint": data.fingerprint,
            "task": data.task,
            "classes": list(data.classes),
            "images": {split: len(rows) for split, rows in data.rows.items()},
            "image_size": data.image_size,
            "aspect": data.aspect,
            "notes": list(data.notes),
        }


def make_plan(config: SearchConfig, progress: Progress | None = None) -> Plan:
    """Prepare a search. Raises ``InjertoError`` for anything that could not work, before any trial begins."""
    changes = dict(config.space)
    for name in SETTINGS:
        if name in changes:
            raise ConfigError(f"space.{name} is the same for all trials of a search; set {name} instead")
    backbones = choose_backbones(config, changes)
    dataset = prepare(
        **config.data.model_dump(), weights=config.weights, image_size=config.image_size, aspect=config.aspect, progress=progress
    )
    for name in backbones:
        check_image_size(name, dataset.image_size)
    targets = dataset.targets[dataset.rows["train"]]
    metric = objective(dataset.task, targets, config.algorithm.metric)
    check_judged(dataset)
    stages = {name: len(backbone(name).stages) for name in backbones}
    images = len(dataset.rows["train"])
    recipe = default_recipe(
        images,
        task=dataset.task,
        backbone=backbones[0],
        stages=stages[backbones[0]],
        weights=config.weights,
        image_size=dataset.image_size,
        aspect=config.aspect,
        ops=default_ops(config.data.source),
    )
    parameters = default_parameters(recipe, task=dataset.task, images=images, backbones=backbones, stages=max(stages.values()))
    space = build_space(recipe, parameters, changes, stages)
    check_space(space, images, max(stages.values()))
    check_parts(space, config.resources.gpus_per_trial or 1)
    check_losses(space, dataset.task, dataset.targets[np.concatenate(list(dataset.rows.values()))])
    return Plan(config, dataset, metric, space)


def choose_backbones(config: SearchConfig, changes: dict[str, object]) -> tuple[str, ...]:
    """Return the backbones to search: the named ones, else those of the table whose weights are to be had."""
    named = changes.pop("backbone", None)
    if not isinstance(named, str | list | None) or (isinstance(named, list) and not all(isinstance(name, str) for name in named)):
        raise ConfigError(f"space.backbone takes a name or a list of names but got {named!r}")
    chosen = config.backbones or ((named,) if isinstance(named, str) else tuple(named) if isinstance(named, list) else ())
    if chosen:
        for name in chosen:
            backbone(name)
            check_weights(name, config.weights)
        return chosen
    usable, refusals = [], []
    for name in BACKBONES.get(config.weights, (FILE_BACKBONE,)):
        try:
            check_weights(name, config.weights)
            usable.append(name)
        except InjertoError as error:
            refusals.append(error)
    if not usable:
        raise refusals[0]
    return tuple(usable)


def default_ops(source: str) -> tuple[AugmentationOp, ...]:
    """Return the augmentation that keeps the labels of a built-in set: a mirrored digit is another digit, or none."""
    return tuple(op for op in AUGMENTATION_OPS if op != "flip") if source == "builtin:digits" else AUGMENTATION_OPS


def check_space(space: Space, images: int, stages: int) -> None:
    """Raise ``ConfigError`` for values that this data set or these backbones cannot serve."""
    limits = {
        "batch_size": (largest_batch(images), f"a quarter of the {images} training images"),
        "unfrozen_stages": (stages, "the stages of the backbone"),
    }
    for name, (limit, meaning) in limits.items():
        largest = max(space.reached(name))
        if largest > limit:
            raise ConfigError(f"{name} must be at most {limit}, {meaning}, but space.{name} reaches {largest}")


def check_parts(space: Space, gpus: float) -> None:
    """Raise ``ConfigError`` where one trial lies on several GPUs and a batch cannot be dealt out to them evenly."""
    parts = [int(gpus) * accumulation for accumulation in space.reached("accumulation") if gpus > 1]
    for batch in space.reached("batch_size"):
        if wrong := [count for count in parts if batch % count]:
            raise ConfigError(
                f"a batch of {batch} cannot be dealt out to {gpus:g} GPUs in {wrong[0]} equal parts; set space.batch_size to multiples of "
                f"{max(parts)}, such as [{max(parts)}, {2 * max(parts)}], or another resources.gpus_per_trial"
            )


def check_judged(dataset: Dataset) -> None:
    """Raise ``DataError`` where the validation images cannot tell a good binary or multilabel network from a bad one."""
    targets = dataset.targets[dataset.rows["validation"]]
    if dataset.task == "binary" and len(np.unique(targets)) < 2:
        absent = dataset.classes[1 - int(targets[0])]
        raise DataError(f"the validation images hold no image of {absent!r}; add images of it, or give splits that hold both classes")
    if dataset.task == "multilabel" and not targets.any():
        raise DataError("no validation image has any label; add images with labels, or give splits whose validation part has some")


def check_losses(space: Space, task: str, targets: np.ndarray) -> None:
    """Raise ``ConfigError`` or ``DataError`` for a loss or a scale of the targets that the space reaches and the task does not have."""
    for loss, scale in product(space.reached("loss"), space.reached("target")):
        check_targets(task, loss, scale, targets)


def absolute(config: SearchConfig) -> SearchConfig:
    """Return the configuration with every path resolved against the present folder, so that a change of folder changes nothing."""
    data, weights = config.data, config.weights
    update = {
        "source": data.source if data.source.startswith("builtin:") else str(_resolved(data.source)),
        "image_folder": data.image_folder and str(_resolved(data.image_folder)),
    }
    if is_url(data.source):  # as it is, and its image_folder lies inside
        update = {"source": check_url(data.source, "data source")}
    return config.model_copy(
        update={
            "data": data.model_copy(update=update),
            "weights": weights if weights in BACKBONES else str(_resolved(weights)) if Path(weights).suffix else weights,
            "output": _resolved(config.output),
            "root": config.root and (check_url(config.root) if is_url(config.root) else str(_resolved(config.root))),
        }
    )


def _resolved(path: str | Path) -> Path:
    try:
        return Path(path).expanduser().resolve()
    except (RuntimeError, ValueError, OSError) as error:
        raise ConfigError(f"{str(path)[:200]!r} is not a usable path: {error}") from None
