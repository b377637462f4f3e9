"""Checks a whole space against the data set, the backbones and the GPUs, before any trial starts."""

from collections.abc import Callable, Iterable
from itertools import product
from typing import Any

import numpy as np

from search.space.space import Space
from trainables.config import TrialConfig, validate
from trainables.data.dataset import Dataset
from trainables.errors import ConfigError
from trainables.objectives import check_targets
from trainables.recipe import largest_batch
from trainables.training.checks import check_trial

NEEDS: dict[str, tuple[str, Callable[[Any], bool], str]] = {
    "momentum": ("optimizer", lambda name: name != "adamw", "adamw has no momentum"),
    "head_units": ("head_layers", bool, "the head has no hidden layer"),
    "activation": ("head_layers", bool, "the head has no hidden layer"),
    "stage_lr_decay": ("unfrozen_stages", bool, "all stages stay frozen"),
    "freeze_steps": ("unfrozen_stages", bool, "all stages stay frozen"),
    "l2_sp": ("unfrozen_stages", bool, "all stages stay frozen"),
    "warmup": ("schedule", lambda name: name != "one_cycle", "one_cycle has a warm-up of its own"),
    "augmentation_strength": ("augmentation_ops", bool, "there is no operation of augmentation"),
}
"""Field → another field, a function that says for a value of that one whether the first has an effect, and why it has none."""


def check_limits(space: Space, images: int, stages: int) -> None:
    """Raise ``ConfigError`` if the space holds a batch size, or a number of unfrozen or new stages, that is too large.

    The limits are a quarter of the `images` training images, `stages`, the most stages that a searched backbone has, and the most unfrozen
    stages of the space.
    """
    limits = {
        "batch_size": (largest_batch(images), f"a quarter of the {images} training images"),
        "unfrozen_stages": (stages, "the stages of the backbone"),
        "reinit_stages": (max(space.possible_values("unfrozen_stages")), "the most stages that train"),
    }
    for name, (limit, meaning) in limits.items():
        largest = max(space.possible_values(name))
        if largest > limit:
            raise ConfigError(f"{name} must be at most {limit}, {meaning}, but space.{name} reaches {largest}")


def check_batch_parts(space: Space, gpus: float) -> None:
    """Raise ``ConfigError`` if a batch size of the space cannot be split into equal parts for the GPUs of one trial.

    Each GPU takes as many parts as the space's accumulation says. With at most one GPU nothing is checked.
    """
    parts = [int(gpus) * accumulation for accumulation in space.possible_values("accumulation") if gpus > 1]
    for batch in space.possible_values("batch_size"):
        if uneven := [count for count in parts if batch % count]:
            raise ConfigError(
                f"a batch of {batch} cannot be split into {uneven[0]} equal parts for {gpus:g} GPUs; set space.batch_size to multiples of "
                f"{max(parts)}, such as [{max(parts)}, {2 * max(parts)}], or another resources.gpus_per_trial"
            )


def check_effects(space: Space, names: Iterable[str]) -> None:
    """Raise ``ConfigError`` if one of the fields that a user has set has no effect in any trial of the space."""
    for name in names:
        if name in NEEDS:
            other, acts, why = NEEDS[name]
            if not any(map(acts, space.possible_values(other))):
                raise ConfigError(f"space.{name} has no effect: {why}; leave it out, or change space.{other}")


def check_corners(space: Space, dataset: Dataset, gpus: float) -> None:
    """Raise what a trial would raise that got one of the `corners` of the space, on so many GPUs: ``ConfigError`` or ``DataError``.

    So a setting that does not apply to the data set ends the search before its first trial, not each of its trials. Raises ``ConfigError``
    too for values of two parameters that no trial can have together, and names the parameters.
    """
    for first, second, values in space.pairs():
        validate(TrialConfig, values, f"space.{first} and space.{second} together")
    for trial in space.corners():
        check_trial(dataset, trial, max(1, int(gpus)))


def check_losses(space: Space, task: str, targets: np.ndarray) -> None:
    """Raise ``ConfigError`` or ``DataError`` for a loss or a target scale of the space that the task or its targets do not allow.

    `targets` are the targets of all splits.
    """
    for loss, scale in product(space.possible_values("loss"), space.possible_values("target")):
        check_targets(task, loss, scale, targets)
