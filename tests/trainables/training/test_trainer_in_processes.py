"""One trial in two processes, against the same trial in one."""

import re

import numpy as np
import pytest
import torch

from tests.trainables.conftest import ALL_OPTIONS
from tests.trainables.replicating import CPU, EXACT, assert_same_history, largest_difference, train, train_alone, train_in_two_processes
from trainables.distributed.world import World
from trainables.errors import ConfigError
from trainables.training.trainer import Trainer, epoch_seed

PRETRAINED = {"backbone": "efficientnet_lite0", "weights": "imagenet"}
pytestmark = pytest.mark.usefixtures("short_epochs")


@pytest.mark.parametrize(
    ("task", "changes"),
    [
        ("multiclass", {"optimizer": "adamw"}),
        ("multiclass", {"accumulation": 2, "optimizer": "sgd", "clip_norm": 0.1}),
        ("larger", {"weights": "none", "batch_size": 16, "learning_rate": 0.01}),
        ("regression", {"weights": "none", "schedule": "constant", "head_layers": 1}),
        ("multilabel", {"unfrozen_stages": 2, "optimizer": "rmsprop"}),
    ],
    ids=["frozen batch norm", "accumulation", "training batch norm", "regression", "multilabel"],
)
def test_two_processes_equal_one_with_twice_the_micro_batches(request, tiny, pair, task, changes):
    """The same images in the same micro-batches: the weights are equal to the last bit if only two gradients are summed."""
    dataset = request.getfixturevalue(task)
    trial = tiny(**{"epochs": 2, "dropout": 0.0, "freeze_steps": 0.6, "augmentation_strength": 0.5} | changes)  # thaws in the second epoch
    history, weights = train_in_two_processes(pair, dataset, trial)
    expected, expected_weights = train_alone(dataset, trial.model_copy(update={"accumulation": 2 * trial.accumulation}))
    assert_same_history(history, expected, EXACT if trial.accumulation == 1 else 1e-3)
    assert largest_difference(weights, expected_weights) <= (0 if trial.accumulation == 1 else 1e-4)


def test_two_processes_equal_one_with_the_same_batches(multiclass, tiny, pair):
    """Batch norm is frozen, so two half batches equal one batch, except for the rounding of sums."""
    trial = tiny(epochs=2, dropout=0.0, freeze_steps=0.4, optimizer="sgd", learning_rate=0.003, **PRETRAINED)
    history, weights = train_in_two_processes(pair, multiclass, trial)
    expected, expected_weights = train_alone(multiclass, trial)
    assert_same_history(history, expected, 1e-3)
    assert largest_difference(weights, expected_weights) < 1e-4


def test_two_processes_train_with_all_options(multiclass, tiny, pair):
    history, _ = train_in_two_processes(pair, multiclass, tiny(epochs=2, **ALL_OPTIONS))
    assert np.isfinite(history["train_loss"]).all()


def test_all_ranks_begin_with_the_network_of_rank_0(multiclass, tiny, pair):
    trial = tiny(dropout=0.0)
    plain, noisy = (train_in_two_processes(pair, multiclass, trial, noise=name) for name in (None, "body.trunk.features.12.0.weight"))
    assert plain[0] == noisy[0]
    assert largest_difference(plain[1], noisy[1]) == 0


def test_dropout_differs_from_rank_to_rank(multiclass, tiny, pair):
    """With the same mask for both halves, dropout would be less random than on one process."""
    masked = [dropout_mask(multiclass, tiny(dropout=0.5), World(rank, 2)) for rank in (0, 1)]
    assert not np.array_equal(*masked)
    assert np.array_equal(masked[0], dropout_mask(multiclass, tiny(dropout=0.5), World()))


def dropout_mask(dataset, trial, world):
    """Return the dropout of a trial's first batch, applied to ones."""
    torch.manual_seed(epoch_seed(trial.seed, 1, world.rank))
    return torch.nn.functional.dropout(torch.ones(4, 16), trial.dropout).numpy()


def test_all_ranks_raise_for_a_loss_that_is_not_finite(multiclass, tiny, pair):
    trial = tiny(optimizer="sgd", learning_rate=10, clip_norm=0, freeze_steps=0, warmup=0, weight_decay=1, epochs=3)
    tracebacks = pair.run(train, multiclass.fingerprint, trial.model_dump())
    messages = {re.search(r"NonFiniteError: .*", text)[0] for text in tracebacks}
    assert len(messages) == 1


@pytest.mark.parametrize(("replicas", "accumulation", "fitting"), [(3, 1, 6), (2, 4, 8), (8, 2, 16)])
def test_a_batch_that_cannot_be_divided_is_rejected(larger, tiny, replicas, accumulation, fitting):
    trial = tiny(batch_size=12 if accumulation == 4 else 8, accumulation=accumulation)
    message = (
        f"batch_size must be a multiple of accumulation × replicas \\({accumulation} × {replicas}\\) but got {trial.batch_size}; "
        f"choose {fitting}, for example, or another number of GPUs for a trial"
    )
    with pytest.raises(ConfigError, match=message):
        Trainer(larger, trial, device=CPU, world=World(1, replicas))
