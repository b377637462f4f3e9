"""The default recipe: a configuration that works well without a search, from the size of the data set. Light to import."""

import math

from trainables.config import AUGMENTATION_OPS, Aspect, AugmentationOp, TrialConfig

STEPS = 300  # of a trial, about
EPOCHS = (6, 30)  # fewest and most
DEPTH = 3  # stages that train, of a pretrained body
LEARNING_RATE = 2e-3  # for batches of 32; proportional to the batch size
STAGE_LR_DECAY = 1.0
STEPS_PER_EPOCH = 20  # at least
HEAD_EPOCHS = 20
BATCH_SIZE = 32
VIEWS = 8
SMALL = 500  # training images; smaller sets have batches of 16


def largest_batch(images: int) -> int:
    """Return the largest allowed batch for `images` training images: a quarter of them, but at least 2."""
    return max(2, images // 4)


def passes_per_epoch(images: int, batch_size: int) -> int:
    """Return how many passes over the training images one reported epoch has: the fewest that make at least 20 steps."""
    return math.ceil(STEPS_PER_EPOCH / max(1, images // batch_size))


def steps_per_epoch(images: int, batch_size: int) -> int:
    """Return the steps of one reported epoch, which has whole passes and leaves out the last images that fill no batch."""
    return passes_per_epoch(images, batch_size) * (images // batch_size)


def rule_epochs(images: int, batch_size: int) -> int:
    """Return how many reported epochs make about 300 steps, but at least 6 and at most 30."""
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
    """Return the configuration that trial 0 runs. What is not given here follows from `images`, or is the default of `TrialConfig`.

    `images` counts the training images. `stages` of the body train, counted from the head down.
    """
    batch_size = min(BATCH_SIZE if images >= SMALL else BATCH_SIZE // 2, largest_batch(images))
    pretrained, epochs = weights != "none", rule_epochs(images, batch_size)
    return TrialConfig(
        backbone=backbone,
        weights=weights,
        image_size=image_size,
        aspect=aspect,
        unfrozen_stages=min(stages, DEPTH) if pretrained else stages,
        head_epochs=HEAD_EPOCHS if pretrained else 0,
        learning_rate=LEARNING_RATE * batch_size / BATCH_SIZE,
        stage_lr_decay=STAGE_LR_DECAY,
        label_smoothing=0.1 if task == "multiclass" else 0.0,
        batch_size=batch_size,
        epochs=epochs,
        augmentation_ops=ops,
        flip_average=pretrained and "flip" in ops,
        views=VIEWS if pretrained else 0,
        seed=seed,
    )
