"""`refit_trainer`, which trains a trial's configuration on its training and validation images together."""

from typing import Any

from trainables.config import TrialConfig
from trainables.data.dataset import Dataset, with_validation_in_training
from trainables.data.folds import training_images
from trainables.recipe import passes_per_epoch
from trainables.training.trainer import Trainer


def refit_trainer(dataset: Dataset, trial: TrialConfig, **options: Any) -> Trainer:
    """Return a trainer on the training and validation images of a data set, without folds.

    It has the trial's schedule: the same epochs, and in each as many passes over its images as the trial has over its own. Takes the
    options of `Trainer`, and raises as the class does.
    """
    passes = passes_per_epoch(training_images(dataset, trial.folds), trial.batch_size)
    return Trainer(with_validation_in_training(dataset), trial.model_copy(update={"folds": 0}), passes=passes, **options)
