"""What resume rejects, continues, and changes."""

import socket

import pytest

from search.config import SearchConfig
from search.config_reader import change_settings, read_config
from search.driver.launch import resume
from search.driver.steering import with_larger_budget
from search.durations import parse_duration
from search.record.reader import read_study
from search.space.backbone_choice import choose_backbones
from tests.search.simulated_search import check_record, run_simulated_search
from tests.search.watchers import ActOnce
from trainables.errors import ConfigError, StorageError
from trainables.worker.simulated_trial import SimulatedTrial


def test_resume_rejects_a_study_that_is_running(ray_session, tmp_path):
    refusals = []

    def try_to_resume():
        with pytest.raises(StorageError, match="'calm-fig' is running since") as refusal:
            resume("calm-fig", f"sqlite:///{tmp_path}/studies.db", trainable=SimulatedTrial)
        refusals.append(str(refusal.value))

    run_simulated_search(tmp_path, trials=2, name="calm-fig", watcher=ActOnce("epoch", try_to_resume))
    assert socket.gethostname() in refusals[0]


def test_resume_continues_a_finished_search_with_more_trials(ray_session, tmp_path):
    storage = f"sqlite:///{tmp_path}/studies.db"
    first = run_simulated_search(tmp_path, trials=3, name="calm-fig")
    with pytest.raises(StorageError, match=r"has finished .*--add-trials 10"):
        resume("calm-fig", storage, trainable=SimulatedTrial)
    record = resume("calm-fig", storage, trainable=SimulatedTrial, add_trials=2)
    check_record(record, 5)
    assert [trial.config for trial in record.trials[:3]] == [trial.config for trial in first.trials]
    assert record.config["budget"]["trials"] == 5
    assert record.why == "all 5 trials have ended"
    assert [evaluation["trials"] for evaluation in record.test_evaluations] == [3, 5]
    assert record.seconds > first.seconds


@pytest.mark.slow
def test_resume_searches_the_recorded_backbones_although_more_weights_are_here(ray_session, tmp_path, weights_here):
    storage = f"sqlite:///{tmp_path}/studies.db"
    weights_here.keep_packages("efficientnet_lite0")
    first = run_simulated_search(tmp_path, trials=2, name="calm-fig", weights="imagenet")
    assert first.config["backbones"] == ["efficientnet_lite0"]
    weights_here.cache("resnet50")
    assert choose_backbones(SearchConfig()) == ("efficientnet_lite0", "resnet50")
    record = resume("calm-fig", storage, trainable=SimulatedTrial, add_trials=4)
    check_record(record, 6)
    assert record.config["backbones"] == ["efficientnet_lite0"]
    assert {trial.config["backbone"] for trial in record.trials} == {"efficientnet_lite0"}
    assert record.parameters == first.parameters
    assert "backbone" not in record.parameters


def test_resume_rejects_a_search_that_would_end_at_once(ray_session, tmp_path):
    storage = f"sqlite:///{tmp_path}/studies.db"
    first = run_simulated_search(tmp_path, trials=3, name="calm-fig", target=0.01)
    assert first.why == "the target 0.01 is reached"
    with pytest.raises(ConfigError, match=r"would end at once: the target 0.01 is reached"):
        resume("calm-fig", storage, trainable=SimulatedTrial, add_trials=2)
    with pytest.raises(ConfigError, match="would end at once"):
        resume("calm-fig", storage, trainable=SimulatedTrial, add_seconds=60)
    after = read_study("calm-fig", storage)
    assert (after.test_evaluations, after.config, after.state) == (first.test_evaluations, first.config, "finished")


def test_with_larger_budget_adds_trials_and_time():
    config = read_config(None, {"trials": 10, "time_budget": "60s"})
    assert with_larger_budget(config, 5, 0, 80.0).budget.model_dump() == config.budget.model_dump() | {"trials": 15}
    assert with_larger_budget(config, 0, 30, 20.0).budget.time == 90
    assert with_larger_budget(config, 0, 30, 80.0).budget.time == 110
    unlimited = read_config(None, {})
    assert with_larger_budget(unlimited, 0, 30, 80.0).budget.time == 110
    assert with_larger_budget(unlimited, 1, 0, 80.0).budget.time is None


def test_change_settings_accepts_only_budget_keep_and_resources():
    config = read_config(None, {})
    changed = change_settings(config, ("keep.disk=2GB", "budget.target=0.9"))
    assert (changed.keep.disk, changed.budget.target) == (2e9, 0.9)
    assert change_settings(config, ()) == config
    for setting, words in {
        "seed=3": "start a new search for the rest",
        "keep.dsk=3": "keep",
        "budget.trials=0": "greater than or equal to 1",
    }.items():
        with pytest.raises(ConfigError, match=words):
            change_settings(config, (setting,))


def test_parse_duration_reads_units_and_rejects_other_texts():
    assert (parse_duration("--add-time", "1.5h"), parse_duration("--add-time", None)) == (5400, 0)
    for wrong in ("soon", "0s"):
        with pytest.raises(ConfigError, match=f"--add-time must be .* but got '{wrong}'"):
            parse_duration("--add-time", wrong)
