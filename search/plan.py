"""Prepares a search: reads the data, checks the weights, builds the space, so that errors in them are raised before any trial starts."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product

import numpy as np

from search.config import SearchConfig
from search.presets.reading import trains_on_gpus
from search.space.backbone_choice import choose_backbones
from search.space.changes import build_space
from search.space.checks import check_batch_parts, check_corners, check_effects, check_limits, check_losses
from search.space.default_space import default_parameters
from search.space.space import Space
from trainables.config import AUGMENTATION_OPS, AugmentationOp, TrialConfig, validate
from trainables.data.dataset import Dataset, prepare_from_config
from trainables.data.folds import training_images
from trainables.errors import ConfigError, DataError
from trainables.images.decode import DECODER_VERSION
from trainables.networks.backbones import backbone, check_image_size
from trainables.networks.weights import fetch_weights, weights_at_hand
from trainables.objectives import DIRECTIONS, objective
from trainables.recipe import default_recipe
from trainables.thread_map import OnProgress

OUTSIDE_OF_SPACE = ("weights", "image_size", "aspect", "seed")
"""Fields of a `TrialConfig` that a search sets by a setting of its own, not in its space."""
SEED_STRIDE = 100_003
"""A trial's seed is the seed of its search times this, plus its number, so that searches with different seeds share no trial's seed."""


@dataclass(frozen=True)
class Plan:
    """A search that is ready to start: its settings, the prepared data set, the metric that it optimizes, and its space."""

    config: SearchConfig
    dataset: Dataset
    metric: str
    space: Space
    manifest: str | None = None  # location of the data's manifest, if the nodes were prepared with it

    @property
    def mode(self) -> str:
        """``max`` if the metric is maximized, ``min`` if it is minimized."""
        return DIRECTIONS[self.metric]

    @property
    def image_sizes(self) -> tuple[int, ...]:
        """The image sizes that are searched, pixels, ascending; `dataset` has the first."""
        return self.config.image_size or (self.dataset.image_size,)

    def with_seed(self, number: int, trial: TrialConfig) -> TrialConfig:
        """Return `trial` with the seed that the trial of this number has in this search."""
        return trial.model_copy(update={"seed": self.config.seed * SEED_STRIDE + number})

    def dataset_facts(self) -> dict[str, object]:
        """Return what the record stores about the data set, such as its fingerprint, task, classes and images per split, as JSON values."""
        data = self.dataset
        return {
            "fingerprint": data.fingerprint,
            "decoder": DECODER_VERSION,
            "task": data.task,
            "classes": list(data.classes),
            "images": {split: len(rows) for split, rows in data.rows.items()},
            "image_size": data.image_size,
            "aspect": data.aspect,
            "notes": list(data.notes),
        }


def make_plan(config: SearchConfig, on_progress: OnProgress | None = None) -> Plan:
    """Prepare a search. `on_progress` is called while images are read and decoded.

    Raises ``InjertoError`` for settings, data or weights that cannot work, before any trial starts.
    """
    changes = dict(config.space)
    for name in changes:
        if name in OUTSIDE_OF_SPACE or name in SearchConfig.model_fields.keys() - TrialConfig.model_fields.keys():
            raise ConfigError(f"{name} is a setting of its own, not a part of space; set {name} instead of space.{name}")
    backbones = choose_backbones(config, changes.pop("backbone", None))
    _fetch_weights(backbones, config.weights, on_progress)
    dataset, sizes = _prepare_sizes(config, on_progress)
    for name, size in product(backbones, sizes):
        check_image_size(name, size)
    config = config.model_copy(update={"backbones": backbones, "image_size": sizes})
    targets = dataset.targets[dataset.rows["train"]]
    metric = objective(dataset.task, targets, config.algorithm.metric)
    folds = _chosen_folds(changes.get("folds", 0))
    if not folds:
        check_validation_split(dataset)
    else:
        count = len(dataset.rows["train"]) + len(dataset.rows["validation"])
        note = f"each trial trains {folds} networks, one for each fold of the {count:,} training and validation images"
        dataset = replace(dataset, notes=(*dataset.notes, note))
    stages = {name: len(backbone(name).stages) for name in backbones}
    images = training_images(dataset, folds)
    recipe = default_recipe(
        images,
        task=dataset.task,
        backbone=backbones[0],
        stages=stages[backbones[0]],
        weights=config.weights,
        image_size=dataset.image_size,
        aspect=config.aspect,
        ops=default_augmentation(config.data.source),
    )
    ops = changes.get("augmentation_ops", recipe.augmentation_ops)
    if isinstance(ops, list | tuple) and "flip" not in ops:
        changes.setdefault("flip_average", False)
    parameters = default_parameters(recipe, images=images, backbones=backbones, stages=max(stages.values()), image_sizes=sizes)
    space = build_space(recipe, parameters, changes, stages)
    check_limits(space, images, max(stages.values()))
    check_batch_parts(space, config.resources.gpus_per_trial or 1)
    check_effects(space, changes)
    check_losses(space, dataset.task, dataset.targets[np.concatenate(list(dataset.rows.values()))])
    check_corners(space, dataset, config.resources.gpus_per_trial or 1)
    return Plan(config, dataset, metric, space)


def _fetch_weights(backbones: Sequence[str], weights: str, on_progress: OnProgress | None) -> None:
    """Download the pretrained weights of the backbones that are not on this machine. Raises as `fetch_weights` does."""
    for name in backbones:
        if weights == "imagenet" and not weights_at_hand(name, weights):
            fetch_weights(name, on_progress and partial(_on_download, on_progress, f"fetching {name}"))


def _on_download(on_progress: OnProgress, what: str, done: int, total: int) -> None:
    on_progress(done, total, what)


def _chosen_folds(change: object) -> int:
    """Return the number of folds of every trial; `change` is what the user set `space.folds` to. Raises ``ConfigError`` for several."""
    if isinstance(change, list | dict):
        raise ConfigError(
            f"space.folds decides on which images a trial's value is measured, so all trials must have the same, but got {change}; "
            "set one number, such as space.folds: 5"
        )
    return validate(TrialConfig, {"folds": change}, "space").folds


def _prepare_sizes(config: SearchConfig, on_progress: OnProgress | None) -> tuple[Dataset, tuple[int, ...]]:
    """Return the data set at the smallest searched image size, and all sizes, ascending; decode the images for each of them.

    Raises as `prepare_from_config` does.
    """
    given = config.image_size or (None,)
    gpu = config.image_size is None and trains_on_gpus(config.resources.gpus_per_trial, config.resources.address)

    def prepare(size: int | None) -> Dataset:
        return prepare_from_config(config.data, gpu=gpu, image_size=size, aspect=config.aspect, on_progress=on_progress)

    datasets = {dataset.image_size: dataset for dataset in map(prepare, given)}
    sizes = tuple(sorted(datasets))
    return datasets[sizes[0]], sizes


def default_augmentation(source: str) -> tuple[AugmentationOp, ...]:
    """Return the augmentation operations that keep the labels of a data source.

    These are `AUGMENTATION_OPS`; for ``builtin:digits`` without ``flip``, because a mirrored digit is another digit or none.
    """
    return tuple(op for op in AUGMENTATION_OPS if op != "flip") if source == "builtin:digits" else AUGMENTATION_OPS


def check_validation_split(dataset: Dataset) -> None:
    """Raise ``DataError`` if the validation images cannot tell a good network from a bad one.

    That is so if they hold only one class of a binary task, or no label at all of a multilabel task. Other tasks are not checked.
    """
    targets = dataset.targets[dataset.rows["validation"]]
    if dataset.task == "binary" and len(np.unique(targets)) < 2:
        absent = dataset.classes[1 - int(targets[0])]
        raise DataError(f"the validation images hold no image of {absent!r}; add images of it, or give splits that hold both classes")
    if dataset.task == "multilabel" and not targets.any():
        raise DataError("no validation image has any label; add images with labels, or give splits whose validation part has some")
