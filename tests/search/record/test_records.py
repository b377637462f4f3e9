import time
from dataclasses import replace
from datetime import datetime

import pytest
from optuna.samplers import RandomSampler

from search.record.records import STATES, read_study
from search.record.store import create_study, load_study, open_storage
from trainables.errors import StorageError


def test_the_record_is_read_back_from_the_storage_alone(finished, finished_storage):
    again = read_study("calm-fig", finished_storage)
    assert again.trials == finished.trials
    assert again.best_json() == finished.best_json()
    assert [trial.history for trial in again.trials] == [trial.history for trial in finished.trials]


def test_ranking_is_best_first_by_the_metric(finished):
    values = [trial.value for trial in finished.ranking]
    assert values == sorted(values)
    assert all(trial.state == "finished" for trial in finished.ranking)
    turned = replace(finished, mode="max")
    assert [trial.value for trial in turned.ranking] == values[::-1]


def test_stopped_trials_are_ranked_where_none_finished(finished):
    stopped = tuple(trial for trial in finished.trials if trial.state == "stopped")
    record = replace(finished, trials=stopped)
    assert record.best.value == min(trial.value for trial in stopped)
    assert replace(finished, trials=()).best is None


def test_json_has_the_promised_keys(finished):
    status = finished.status_json()
    assert set(status) == {"study", "state", "metric", "mode", "trials", "epochs", "seconds", "why", "best_trial", "failures"}
    assert set(status["trials"]) == set(STATES)
    assert sum(status["trials"].values()) == 7
    assert status["epochs"] == sum(len(trial.history["loss"]) for trial in finished.trials)
    best = finished.best_json()
    assert set(best) == {"study", "trial", "metric", "value", "epoch", "params", "test", "default_recipe"}
    assert best["value"] == finished.trials[best["trial"]].value
    assert best["epoch"] == 3
    assert best["default_recipe"]["value"] == finished.trials[0].value
    assert set(best["test"]) == set(best["default_recipe"]["test"]) == {"accuracy", "balanced_accuracy", "macro_f1", "loss"}


def test_a_missing_history_is_named(finished, tmp_path):
    trial = replace(finished.trials[1], root=str(tmp_path))
    with pytest.raises(StorageError, match="the history of trial 1 is not at"):
        _ = trial.history


@pytest.mark.slow
def test_the_epoch_of_a_constant_rate_is_the_best_one(search, photos):
    record = search(photos, trials=1, epochs=4, metric="loss", settings=("space.schedule=constant", "space.learning_rate=0.02"))
    (trial,) = record.trials
    losses = trial.history["loss"]
    assert trial.value == min(losses)
    assert record.best_json()["epoch"] == trial.objective_epoch == losses.index(min(losses)) + 1


def test_a_driver_that_is_gone_is_an_interruption(finished_storage, tmp_path):
    source = load_study(open_storage(finished_storage), "calm-fig")
    url = f"sqlite:///{tmp_path}/copy.db"
    study = create_study(open_storage(url, create=True), "calm-fig", "min", RandomSampler(seed=0))
    for name, value in source.user_attrs.items():
        study.set_user_attr(name, value)
    study.ask()
    status = source.user_attrs["status"] | {"since": datetime.now().astimezone().isoformat(timespec="seconds")}
    study.set_user_attr("status", status | {"state": "running", "pid": 2**22 + 1})
    record = read_study(None, url)
    assert (record.state, record.trials[0].state) == ("interrupted", "paused")
    with pytest.raises(StorageError, match="no trial of 'calm-fig' has ended yet"):
        replace(record, trials=()).best_json()
    study.set_user_attr("status", status | {"state": "running", "host": "elsewhere"})
    assert read_study(None, url).state == "running"  # it began a moment ago
    study.set_user_attr("status", status | {"state": "running", "host": "elsewhere", "since": "2026-01-01T00:00:00"})
    study.set_user_attr("heartbeat", {"at": 0.0, "used_seconds": 1.0})
    assert read_study(None, url).state == "interrupted"
    study.set_user_attr("heartbeat", {"at": time.time(), "used_seconds": 1.0})
    assert (read_study(None, url).state, read_study(None, url).trials[0].state) == ("running", "running")


def test_a_study_of_another_program_is_refused(tmp_path):
    url = f"sqlite:///{tmp_path}/s.db"
    create_study(open_storage(url, create=True), "theirs", "max", RandomSampler(seed=0))
    with pytest.raises(StorageError, match="'theirs' was not made by injerto"):
        read_study(None, url)
