"""Checks of a whole space against the data set, the backbones and the GPUs, before any trial starts."""

from itertools import product

import numpy as np

from search.space.space import Space
from trainables.errors import ConfigError
from trainables.objectives import check_targets
from trainables.recipe import largest_batch


def check_limits(space: Space, images: int, stages: int) -> None:
    """Raise ``ConfigError`` for a batch size that `images` training images do not allow, or more stages than the backbones have."""
    limits = {
        "batch_size": (largest_batch(images), f"a quarter of the {images} training images"),
        "unfrozen_stages": (stages, "the stages of the backbone"),
    }
    for name, (limit, meaning) in limits.items():
        largest = max(space.possible_values(name))
        if largest > limit:
            raise ConfigError(f"{name} must be at most {limit}, {meaning}, but space.{name} reaches {largest}")


def check_batch_parts(space: Space, gpus: float) -> None:
    """Raise ``ConfigError`` if one trial uses several GPUs and a batch cannot be split into equal parts for them."""
    parts = [int(gpus) * accumulation for accumulation in space.possible_values("accumulation") if gpus > 1]
    for batch in space.possible_values("batch_size"):
        if uneven := [count for count in parts if batch % count]:
            raise ConfigError(
                f"a batch of {batch} cannot be split into {uneven[0]} equal parts for {gpus:g} GPUs; set space.batch_size to multiples of "
                f"{max(parts)}, such as [{max(parts)}, {2 * max(parts)}], or another resources.gpus_per_trial"
            )


def check_losses(space: Space, task: str, targets: np.ndarray) -> None:
    """Raise ``ConfigError`` or ``DataError`` for a loss or a target scale of the space that the task or its targets do not allow."""
    for loss, scale in product(space.possible_values("loss"), space.possible_values("target")):
        check_targets(task, loss, scale, targets)
