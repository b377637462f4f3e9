"""`FoldTrainer`, which cross-validates a trial: one network for each fold, trained in step."""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trainables.config import TrialConfig
from trainables.data.dataset import Dataset
from trainables.data.folds import fold_datasets
from trainables.distributed.world import ALONE, World
from trainables.training.checkpoint import State
from trainables.training.checks import check_trial
from trainables.training.trainer import Trainer


def new_trainer(dataset: Dataset, trial: TrialConfig, **options: Any) -> Trainer:
    """Return the trainer of a trial, a `FoldTrainer` if it has folds. Takes the options of `Trainer`, and raises as the class does."""
    return (FoldTrainer if trial.folds else Trainer)(dataset, trial, **options)


class FoldTrainer(Trainer):
    """Trains one network for each of a trial's `folds` in step, and measures each image by the network that has not learnt from it.

    An epoch trains every network for one epoch. Its metrics are those of all training and validation images together, each image predicted
    by the network of its own fold. This trainer's own network is that of the first fold: it is exported, and evaluated on the test images.
    Raises as `Trainer` does.
    """

    def __init__(self, dataset: Dataset, trial: TrialConfig, *, world: World = ALONE, **options: Any) -> None:
        check_trial(dataset, trial, world.size)
        folds = fold_datasets(dataset, trial.folds)
        one_fold = trial.model_copy(update={"folds": 0})
        together = np.union1d(dataset.rows["train"], dataset.rows["validation"])
        options["feature_parts"] = [together, dataset.rows["test"]]  # all folds read the same activations
        super().__init__(folds[0], one_fold, **options)
        self.others = [Trainer(fold, one_fold, **options) for fold in folds[1:]]
        self.trial = trial
        self._own_rows = folds[0].rows["validation"]
        measured = np.concatenate([fold.rows["validation"] for fold in folds])
        self.dataset = replace(folds[0], rows=folds[0].rows | {"validation": measured})

    def predict(self, split: str) -> tuple[Tensor, Tensor]:
        """Return the logits `(N, outputs)` and the targets of a split. ``validation`` are the images of all folds, fold by fold.

        The logits of regression are in the units of the first fold's target scale.
        """
        if split != "validation":
            return super().predict(split)
        parts = [self.evaluator.predict(self._own_rows)]
        for other in self.others:
            logits, targets = other.predict(split)
            parts.append((self.scale.convert(logits, other.scale), targets))
        return torch.cat([logits for logits, _ in parts]), torch.cat([targets for _, targets in parts])

    def state(self) -> State:
        """Return what `Trainer.state` does, with the states of the other folds as `others`."""
        return super().state() | {"others": [other.state() for other in self.others]}

    def load(self, state: State) -> None:
        """Continue from a state that `state` returned."""
        super().load(state)
        for other, saved in zip(self.others, state["others"], strict=True):
            other.load(saved)

    def _train(self) -> tuple[float, int]:
        trained = [super()._train()]
        for other in self.others:
            other.epoch = self.epoch
            trained.append(other._train())
            other.epoch += 1
        return sum(loss for loss, _ in trained) / len(trained), sum(images for _, images in trained)

    def _recompute_statistics(self) -> None:
        super()._recompute_statistics()
        for other in self.others:
            other._recompute_statistics()
