from dataclasses import replace

import pytest

from search.record.records import STATES
from trainables.errors import StorageError


def test_ranking_is_best_first_by_the_metric(finished):
    values = [trial.value for trial in finished.ranking]
    assert values == sorted(values)
    assert all(trial.state == "finished" for trial in finished.ranking)
    maximized = replace(finished, mode="max")
    assert [trial.value for trial in maximized.ranking] == values[::-1]


def test_stopped_trials_are_ranked_where_none_finished(finished):
    stopped = tuple(trial for trial in finished.trials if trial.state == "stopped")
    record = replace(finished, trials=stopped)
    assert record.best.value == min(trial.value for trial in stopped)
    assert replace(finished, trials=()).best is None


def test_status_json_and_best_json_have_the_documented_keys(finished):
    status = finished.status_json()
    assert set(status) == {"study", "state", "metric", "mode", "trials", "epochs", "seconds", "why", "best_trial", "failures"}
    assert set(status["trials"]) == set(STATES)
    assert sum(status["trials"].values()) == 6
    assert status["epochs"] == sum(len(trial.history["loss"]) for trial in finished.trials)
    best = finished.best_json()
    assert set(best) == {"study", "trial", "metric", "value", "epoch", "unfinished", "params", "test", "exported", "default_recipe"}
    assert best["value"] == finished.trials[best["trial"]].value
    assert best["epoch"] == 3
    assert best["exported"] == best["test"], "without a refit"
    assert best["default_recipe"]["value"] == finished.trials[0].value
    assert set(best["test"]) == set(best["default_recipe"]["test"]) == {"accuracy", "balanced_accuracy", "macro_f1", "loss"}


def test_a_missing_history_artifact_raises_an_error_that_names_it(finished, tmp_path):
    trial = replace(finished.trials[1], root=str(tmp_path))
    with pytest.raises(StorageError, match="the history of trial 1 is not at"):
        _ = trial.history


@pytest.mark.slow
def test_with_a_constant_rate_the_objective_is_the_best_epochs(search, photos):
    record = search(photos, trials=1, epochs=4, metric="loss", settings=("space.schedule=constant", "space.learning_rate=0.02"))
    (trial,) = record.trials
    losses = trial.history["loss"]
    assert trial.value == min(losses)
    assert record.best_json()["epoch"] == trial.objective_epoch == losses.index(min(losses)) + 1
