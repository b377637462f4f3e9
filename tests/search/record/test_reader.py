import time
from dataclasses import replace
from datetime import datetime

import pytest
from optuna.samplers import RandomSampler

from search.record.reader import read_study
from search.record.store import create_study, load_study, open_storage
from trainables.errors import StorageError


def test_read_study_needs_only_the_storage(finished, finished_storage):
    again = read_study("calm-fig", finished_storage)
    assert again.trials == finished.trials
    assert again.best_json() == finished.best_json()
    assert [trial.history for trial in again.trials] == [trial.history for trial in finished.trials]


def test_a_study_whose_driver_died_is_interrupted(finished_storage, tmp_path):
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
    assert read_study(None, url).state == "running"  # it has just begun
    study.set_user_attr("status", status | {"state": "running", "host": "elsewhere", "since": "2026-01-01T00:00:00"})
    study.set_user_attr("heartbeat", {"at": 0.0, "used_seconds": 1.0})
    assert read_study(None, url).state == "interrupted"
    study.set_user_attr("heartbeat", {"at": time.time(), "used_seconds": 1.0})
    assert (read_study(None, url).state, read_study(None, url).trials[0].state) == ("running", "running")


def test_read_study_rejects_a_study_of_another_program(tmp_path):
    url = f"sqlite:///{tmp_path}/s.db"
    create_study(open_storage(url, create=True), "theirs", "max", RandomSampler(seed=0))
    with pytest.raises(StorageError, match="'theirs' was not made by injerto"):
        read_study(None, url)
