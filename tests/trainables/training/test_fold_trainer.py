from dataclasses import replace

import numpy as np
import pytest
import torch

from trainables.data.folds import fold_datasets
from trainables.training.checkpoint import load_state, save_state
from trainables.training.fold_trainer import FoldTrainer, new_trainer
from trainables.training.trainer import Trainer

pytestmark = pytest.mark.usefixtures("short_epochs")
CPU = torch.device("cpu")
CLOCK = {"seconds_training", "seconds_evaluation", "images_per_second"}


def untimed(trainer):
    return {name: values for name, values in trainer.history.items() if name not in CLOCK}


def test_a_trial_without_folds_has_a_plain_trainer(multiclass, tiny):
    assert type(new_trainer(multiclass, tiny(), device=CPU)) is Trainer


@pytest.mark.parametrize("task", ["multiclass", "regression"])
def test_each_image_is_measured_by_the_network_that_has_not_learnt_from_it(request, tiny, task):
    dataset, trial = request.getfixturevalue(task), tiny(folds=3, batch_size=6)
    trainer = new_trainer(dataset, trial, device=CPU)
    row = trainer.run_epoch()
    alone = []
    for fold in fold_datasets(dataset, 3):
        one = Trainer(fold, tiny(batch_size=6), device=CPU)
        one.run_epoch()
        logits, targets = one.predict("validation")
        alone.append((one.scale.decode(logits), targets))
    logits, targets = trainer.predict("validation")
    assert torch.allclose(trainer.scale.decode(logits), torch.cat([values for values, _ in alone]), atol=1e-5)
    assert torch.equal(targets, torch.cat([values for _, values in alone]))
    assert len(targets) == len(dataset.rows["train"]) + len(dataset.rows["validation"])
    assert row.items() >= trainer.score(logits, targets).items()
    assert trainer.evaluate("validation").items() <= row.items()
    assert trainer.trial.folds == 3


def test_large_targets_keep_their_digits_in_every_fold(regression, tiny):
    large = replace(regression, targets=regression.targets + 1.7e9)
    trainer = new_trainer(large, tiny(folds=3, batch_size=6), device=CPU)
    row = trainer.run_epoch()
    errors = []
    for one in (trainer, *trainer.others):
        rows = trainer._own_rows if one is trainer else one.dataset.rows["validation"]
        logits, targets = one.evaluator.predict(rows)
        errors.append((one.scale.decode(logits.double()).view(-1) - targets).abs())
    assert row["mae"] == pytest.approx(torch.cat(errors).mean().item(), rel=1e-3)


def test_the_first_fold_is_evaluated_on_the_test_images(multiclass, tiny):
    trainer = new_trainer(multiclass, tiny(folds=3, batch_size=6), device=CPU)
    first = Trainer(fold_datasets(multiclass, 3)[0], tiny(batch_size=6), device=CPU)
    trainer.run_epoch(), first.run_epoch()
    assert trainer.evaluate("test") == first.evaluate("test")


def test_a_resumed_trial_equals_an_uninterrupted_one(multiclass, tiny, tmp_path):
    trial = tiny(folds=3, epochs=3, batch_size=6)
    whole = new_trainer(multiclass, trial, device=CPU)
    whole.run_epoch()
    save_state(tmp_path / "1.pt", whole.state())
    resumed = new_trainer(multiclass, trial, device=CPU)
    resumed.load(load_state(tmp_path / "1.pt"))
    for trainer in (whole, resumed):
        while trainer.epoch < trial.epochs:
            trainer.run_epoch()
    assert untimed(resumed) == untimed(whole)
    assert isinstance(resumed, FoldTrainer)
    for one, other in zip([resumed, *resumed.others], [whole, *whole.others], strict=True):
        state = one.network.state_dict()
        assert all(torch.equal(state[name], tensor) for name, tensor in other.network.state_dict().items())
    assert [other["optimizer"] for other in whole.state()["others"]] == [None, None]


def test_diagnostics_show_the_images_of_all_folds(multiclass, tiny):
    trainer = new_trainer(multiclass, tiny(folds=2, batch_size=4), device=CPU)
    trainer.run_epoch()
    diagnostics = trainer.diagnostics()
    assert diagnostics["images"] == len(multiclass.rows["train"]) + len(multiclass.rows["validation"])
    assert np.isfinite(diagnostics["interval"]).all()
