"""The default recipe: a configuration that is good without a search, from the data set's size alone; light to import."""

import math

from trainables.config import AUGMENTATION_OPS, Aspect, AugmentationOp, TrialConfig

STEPS = 500
EPOCHS = (10, 40)
STEPS_PER_EPOCH = 20
SMALL = 500


def largest_batch(images: int) -> int:
    """Return the largest batch that `images` training images allow: a quarter of them."""
    return max(2, images // 4)


def passes_per_epoch(images: int, batch_size: int) -> int:
    """Return how many passes over the training images make one reported epoch of at least 20 steps."""
    return math.ceil(STEPS_PER_EPOCH / max(1, images // batch_size))


def rule_epochs(images: int, batch_size: int) -> int:
    """Return the epochs that make about 500 steps, within 10 to 40."""
    steps = passes_per_epoch(images, batch_size) * max(1, images // batch_size)
    return min(max(round(STEPS / steps), EPOCHS[0]), EPOCHS[1])


def default_recipe(
    images: int,
    *,
    task: str,
    backbone: str,
    stages: int,
    weights: str,
    image_size: int,
    aspect: Aspect = "crop",
    ops: tuple[AugmentationOp, ...] = AUGMENTATION_OPS,
    seed: int = 0,
) -> TrialConfig:
    """Return the configuration that trial 0 runs, for `images` training images."""
    batch_size = min(32 if images >= SMALL else 16, largest_batch(images))
    return TrialConfig(
        backbone=backbone,
        weights=weights,
        image_size=image_size,
        aspect=aspect,
        unfrozen_stages=stages,
        label_smoothing=0.1 if task == "multiclass" else 0.0,
        batch_size=batch_size,
        epochs=rule_epochs(images, batch_size),
        augmentation_ops=ops,
        seed=seed,
    )
