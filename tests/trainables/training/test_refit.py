import numpy as np
import pytest
import torch

from trainables.recipe import passes_per_epoch
from trainables.training.refit import refit_trainer
from trainables.training.trainer import Trainer

CPU = torch.device("cpu")


@pytest.fixture
def batch_size(multiclass):
    """Return a batch size with which the training images need more passes to make 20 steps than they do with the validation images."""
    images = [len(multiclass.rows["train"]), len(multiclass.rows["train"]) + len(multiclass.rows["validation"])]
    return next(size for size in range(2, 12) if len({passes_per_epoch(count, size) for count in images}) == 2)


def test_a_refit_makes_as_many_passes_as_the_trial_over_more_images(multiclass, tiny, batch_size):
    trial = tiny(batch_size=batch_size, epochs=2)
    first, again = Trainer(multiclass, trial, device=CPU), refit_trainer(multiclass, trial, device=CPU)
    assert again.passes == first.passes
    assert again.steps_per_epoch > first.steps_per_epoch
    rows = multiclass.rows
    assert set(again.dataset.rows["train"]) == set(np.concatenate([rows["train"], rows["validation"]]))
    counted = []
    again.network.register_forward_pre_hook(lambda network, inputs: counted.append(len(inputs[0])) if network.training else None)
    again.run_epoch()
    assert len(counted) == again.steps_per_epoch


def test_a_refit_of_a_trial_with_folds_has_the_passes_of_a_fold(multiclass, tiny):
    trial = tiny(folds=2, batch_size=4)
    again = refit_trainer(multiclass, trial, device=CPU)
    of_a_fold = (len(multiclass.rows["train"]) + len(multiclass.rows["validation"])) // 2
    assert again.trial.folds == 0
    assert again.passes == passes_per_epoch(of_a_fold, 4)
