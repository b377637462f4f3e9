"""Checks a trial's configuration against its data set and the number of processes, before anything is built. Light to import."""

import numpy as np

from trainables.config import TrialConfig
from trainables.data.dataset import Dataset
from trainables.data.folds import training_images
from trainables.errors import ConfigError
from trainables.images.pixel_map import stored_side
from trainables.networks.backbones import backbone, check_image_size
from trainables.objectives import check_targets
from trainables.recipe import largest_batch


def check_trial(dataset: Dataset, trial: TrialConfig, processes: int = 1) -> None:
    """Check that a configuration fits the data set and the number of processes that train it together.

    Raises ``ConfigError`` for a batch over a quarter of the training images or not divisible among the processes, for images too small for
    the backbone, and for a setting that does not apply. Raises ``ConfigError`` or ``DataError`` for targets that do not fit, see
    `check_targets`, and ``DataError`` for too few images for the folds.
    """
    _check_batch(dataset, trial, processes)
    _check_parts(trial, processes)
    _check_single_images(trial, processes)
    check_image_size(trial.backbone, trial.image_size)
    check_targets(dataset.task, trial.loss, trial.target, dataset.targets[np.concatenate(list(dataset.rows.values()))])
    _check_mixing(dataset.task, trial, processes)
    _check_class_balance(dataset.task, trial.class_balance)
    _check_label_smoothing(dataset.task, trial.label_smoothing)
    _check_pretrained(trial)
    _check_evaluation_size(trial)


def check_squares(dataset: Dataset, trial: TrialConfig) -> None:
    """Check that a data set was prepared for a configuration's `image_size` and `aspect`. Raises ``ConfigError`` if not."""
    for name in ("image_size", "aspect"):
        if (prepared := getattr(dataset, name)) != (wanted := getattr(trial, name)):
            raise ConfigError(
                f"the data set was prepared with {name} {prepared}, but the trial has {wanted}; prepare it with {name}={wanted!r}"
            )


def _check_batch(dataset: Dataset, trial: TrialConfig, processes: int) -> None:
    if trial.folds and processes > 1:
        raise ConfigError(
            f"folds {trial.folds} trains small networks for small data sets, one after another, but a trial has {processes} GPUs; set "
            "resources.gpus_per_trial to at most 1, or leave folds out"
        )
    images, where = training_images(dataset, trial.folds), " of a fold" if trial.folds else ""
    if trial.batch_size > largest_batch(images):
        raise ConfigError(f"batch_size must be at most a quarter of the {images} training images{where} but got {trial.batch_size}")


def _check_parts(trial: TrialConfig, processes: int) -> None:
    parts = trial.accumulation * processes
    if processes > 1 and trial.batch_size % parts:
        fitting = max(parts, trial.batch_size - trial.batch_size % parts)
        raise ConfigError(
            f"batch_size must be a multiple of accumulation × replicas ({trial.accumulation} × {processes}) but got {trial.batch_size}; "
            f"choose {fitting}, for example, or another number of GPUs for a trial"
        )


def _check_single_images(trial: TrialConfig, processes: int) -> None:
    parts = trial.accumulation * processes
    if trial.accumulation > 1 and trial.batch_size == parts and (trial.weights == "none" or trial.reinit_stages):
        raise ConfigError(
            f"batch_size {trial.batch_size} in {parts} parts (accumulation × replicas) leaves one image in each, of which new batch norm "
            f"learns nothing; choose a batch_size of at least {2 * parts}, or a smaller accumulation"
        )


def _check_mixing(task: str, trial: TrialConfig, processes: int) -> None:
    chosen = " and ".join(f"{name} {value:g}" for name, value in (("mixup", trial.mixup), ("cutmix", trial.cutmix)) if value)
    if chosen and task == "regression":
        raise ConfigError(
            f"{chosen} would mix the targets of two images, but half of an image and half of another do not show the mean of two numbers; "
            "set mixup and cutmix to 0 for regression"
        )
    if chosen and trial.batch_size < 2 * processes:
        raise ConfigError(
            f"{chosen} mixes images of one process, but with a batch of {trial.batch_size} in {processes} processes each has one image; "
            f"choose a batch_size of at least {2 * processes}, or set mixup and cutmix to 0"
        )


def _check_class_balance(task: str, balance: str) -> None:
    if balance != "none" and task == "regression":
        raise ConfigError(f"class_balance: {balance} weighs classes, which regression does not have; set class_balance: none")
    if balance == "sampling" and task == "multilabel":
        raise ConfigError(
            "class_balance: sampling draws all classes equally often, which is not possible where an image has several labels; "
            "set class_balance: loss"
        )


def _check_label_smoothing(task: str, smoothing: float) -> None:
    if smoothing and task != "multiclass":
        raise ConfigError(
            f"label_smoothing {smoothing:g} spreads a part of the target over several classes, which a {task} task does not have; "
            "set label_smoothing to 0"
        )


def _check_pretrained(trial: TrialConfig) -> None:
    if trial.weights == "none" and trial.l2_sp:
        raise ConfigError(f"l2_sp {trial.l2_sp:g} decays towards pretrained weights, but weights: none has none; set l2_sp to 0")
    if trial.weights == "none" and trial.reinit_stages:
        raise ConfigError(
            f"reinit_stages {trial.reinit_stages} replaces pretrained stages, but with weights: none all are new; set reinit_stages to 0"
        )
    if trial.freeze_steps == 1 and (trial.reinit_stages or trial.weights == "none") and trial.unfrozen_stages:
        raise ConfigError("freeze_steps 1 keeps the body frozen to the end, so its new stages would never learn; choose a smaller share")
    if trial.reinit_stages > trial.unfrozen_stages:
        raise ConfigError(
            f"reinit_stages must be at most unfrozen_stages ({trial.unfrozen_stages}), because new stages that stay frozen would never "
            f"learn, but got {trial.reinit_stages}"
        )


def _check_evaluation_size(trial: TrialConfig) -> None:
    if trial.evaluation_size is None or trial.evaluation_size == trial.image_size:
        return
    stored = stored_side(trial.image_size)
    if trial.evaluation_size > stored:
        raise ConfigError(
            f"evaluation_size must be at most {stored}, the side of the squares that are stored for image_size {trial.image_size}, "
            f"but got {trial.evaluation_size}; larger ones would show no more of the image"
        )
    if backbone(trial.backbone).fixed_size:
        raise ConfigError(
            f"{trial.backbone} is built for images of one size, {trial.image_size} pixels, so evaluation_size cannot be "
            f"{trial.evaluation_size}; leave evaluation_size out"
        )
    check_image_size(trial.backbone, trial.evaluation_size)
