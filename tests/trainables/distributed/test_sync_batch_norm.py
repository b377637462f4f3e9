import numpy as np
import pytest

from tests.trainables.replicating import assert_same_history, largest_difference, normalize, train_alone, train_in_two_processes
from trainables.distributed.world import World

pytestmark = pytest.mark.usefixtures("short_epochs")


@pytest.mark.parametrize("activated", [False, True])
@pytest.mark.parametrize("steps", [1, 3])
def test_sync_batch_norm_equals_batch_norm_over_all_maps(pair, steps, activated):
    first, second = pair.run(normalize, steps, activated)
    for own, other, expected in zip(first, second, normalize(World(), steps, activated), strict=True):
        assert np.array_equal(own, other)
        assert np.allclose(own, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_training_with_sync_batch_norm_equals_training_on_whole_batches(larger, tiny, pair):
    trial = tiny(dropout=0.0, freeze_steps=0.4, weights="none", batch_size=16, optimizer="sgd", learning_rate=0.01)
    expected, expected_weights = train_alone(larger, trial)
    history, weights = train_in_two_processes(pair, larger, trial, sync_batch_norm=True)
    assert_same_history(history, expected, 5e-3)
    assert largest_difference(weights, expected_weights) < 5e-3
    separate, _ = train_in_two_processes(pair, larger, trial)
    with pytest.raises(AssertionError):
        assert_same_history(separate, expected, 5e-3)
