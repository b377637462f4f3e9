"""One driver a study, and what is asked of it from elsewhere."""

import socket
import threading
import time

import optuna
import pytest

from search.config_reader import change_settings
from search.driver.launch import read_config, resume
from search.driver.steering import enlarged
from search.durations import parse_duration
from search.record import lease
from search.record.reader import read_study
from search.record.store import load_study, open_storage
from tests.search.simulated_search import check_record, run_simulated_search
from tests.search.watchers import ActOnce
from trainables.errors import ConfigError, StorageError
from trainables.worker.simulated_trial import SimulatedTrial, Simulation


@pytest.fixture
def study(tmp_path):
    study = optuna.create_study(storage=open_storage(f"sqlite:///{tmp_path}/studies.db", create=True), study_name="calm-fig")
    study.set_user_attr("status", {"state": "interrupted"})
    return study


def of(tmp_path, name="calm-fig"):
    return load_study(open_storage(f"sqlite:///{tmp_path}/studies.db"), name)


def test_a_driver_lives_while_it_holds_the_lease(study, tmp_path):
    with lease.Lease(study, tmp_path, 12.0) as held:
        attributes = study.user_attrs
        assert lease.driver_is_alive(attributes)
        assert (attributes["status"]["host"], attributes["status"]["used_seconds"]) == (socket.gethostname(), 12.0)
        assert attributes["heartbeat"]["used_seconds"] == pytest.approx(12.0, abs=5)
        with (
            pytest.raises(StorageError, match=f"running since .* on {socket.gethostname()} .*injerto stop calm-fig"),
            lease.Lease(study, tmp_path, 0),
        ):
            pass
        held.record_end("finished", "all done", 20.0)
    assert not lease.driver_is_alive(study.user_attrs)
    assert [path.name for path in tmp_path.glob(".*")] == []
    with lease.Lease(study, tmp_path, 0.0):
        assert lease.driver_is_alive(study.user_attrs)


def test_a_driver_that_ended_without_a_word_does_not_live_on_in_its_process(study, tmp_path):
    """Its last write met a full disk; the program that searched goes on, a notebook say."""
    with lease.Lease(study, tmp_path, 0.0):
        assert lease.driver_is_alive(study.user_attrs)
    assert study.user_attrs["status"]["state"] == "running"
    assert not lease.driver_is_alive(study.user_attrs)


def elsewhere(study, heard_seconds_ago):
    """Make a study's record that of a driver on another host."""
    status = {
        "state": "running",
        "since": "2026-01-01T00:00:00",
        "host": "another.host",
        "pid": 1,
        "born": 0.0,
        "driver": "x",
        "used_seconds": 5.0,
    }
    study.set_user_attr("status", status)
    study.set_user_attr("heartbeat", {"driver": "x", "at": time.time() - heard_seconds_ago, "used_seconds": 40.0})


def test_a_driver_on_another_host_is_known_by_its_heartbeat(study, tmp_path):
    elsewhere(study, heard_seconds_ago=lease.SILENCE_SECONDS / 2)
    with pytest.raises(StorageError, match=r"running since 2026-01-01T00:00:00 on another\.host"), lease.Lease(study, tmp_path, 0):
        pass
    elsewhere(study, heard_seconds_ago=lease.SILENCE_SECONDS + 1)
    assert not lease.driver_is_alive(study.user_attrs)
    with lease.Lease(study, tmp_path, 40.0) as held:
        assert held.takeover() is None
        elsewhere(study, heard_seconds_ago=0)
        assert held.takeover() == "the driver on another.host (process 1) took the study over at 2026-01-01T00:00:00"


def test_what_is_asked_is_answered_once(study):
    key = lease.send_command(study, "pause")
    assert lease.pending_commands(study)[key]["do"] == "pause"
    assert lease.answer_to(study, key) is None
    lease.answer_command(study, key, "it pauses")
    assert lease.pending_commands(study) == {}
    assert lease.answer_to(study, key) == "it pauses"


def test_what_was_asked_of_a_driver_that_has_ended_comes_too_late(study, tmp_path):
    key = lease.send_command(study, "pause")
    with lease.Lease(study, tmp_path, 0.0):
        assert "too late" in lease.answer_to(study, key)


def test_nothing_is_asked_of_a_study_that_does_not_run(study):
    with pytest.raises(StorageError, match=r"'calm-fig' is not running \(interrupted\)"):
        lease.request(study, "pause")


@pytest.mark.parametrize(("command", "state"), [("pause", "interrupted"), ("finish", "finished")])
def test_a_search_is_stopped_from_elsewhere(command, state, ray_session, tmp_path):
    answers = []

    def ask():
        answers.append(lease.request(of(tmp_path), command))

    asking = ActOnce("epoch", lambda: threading.Thread(target=ask).start())
    record = run_simulated_search(tmp_path, Simulation(seconds=4), trials=50, name="calm-fig", watcher=asking, max_concurrent_trials=2)
    assert record.state == state
    assert len(record.trials) < 50
    assert f"(process {lease.os.getpid()} on {socket.gethostname()}" in record.why
    assert any("running trials" in text for text in asking.said)
    if command == "finish":
        assert record.counts["running"] + record.counts["paused"] == 0
        assert record.counts["stopped"] >= 1
        assert all(
            trial.stop_reason.startswith("budget: ended early by injerto stop") for trial in record.trials if trial.state == "stopped"
        )
        assert record.test["winner"]
    else:
        assert record.counts["paused"] >= 1
        record = resume("calm-fig", f"sqlite:///{tmp_path}/studies.db", trainable=SimulatedTrial, add_trials=len(record.trials) - 50)
        assert record.state == "finished"
    for _ in range(100):
        if answers:
            break
        time.sleep(0.1)
    assert "running trials" in answers[0]


def test_a_second_driver_is_refused(ray_session, tmp_path):
    refusals = []

    def try_to_resume():
        with pytest.raises(StorageError, match="'calm-fig' is running since") as refusal:
            resume("calm-fig", f"sqlite:///{tmp_path}/studies.db", trainable=SimulatedTrial)
        refusals.append(str(refusal.value))

    run_simulated_search(tmp_path, trials=2, name="calm-fig", watcher=ActOnce("epoch", try_to_resume))
    assert socket.gethostname() in refusals[0]


def test_a_finished_search_goes_on_with_more_trials(ray_session, tmp_path):
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


def test_a_search_that_would_end_at_once_is_refused_and_opens_nothing(ray_session, tmp_path):
    storage = f"sqlite:///{tmp_path}/studies.db"
    first = run_simulated_search(tmp_path, trials=3, name="calm-fig", target=0.01)
    assert first.why == "the target 0.01 is reached"
    with pytest.raises(ConfigError, match=r"would end at once: the target 0.01 is reached"):
        resume("calm-fig", storage, trainable=SimulatedTrial, add_trials=2)
    with pytest.raises(ConfigError, match="would end at once"):
        resume("calm-fig", storage, trainable=SimulatedTrial, add_seconds=60)
    after = read_study("calm-fig", storage)
    assert (after.test_evaluations, after.config, after.state) == (first.test_evaluations, first.config, "finished")


def test_more_trials_and_time():
    config = read_config(None, {"trials": 10, "time_budget": "60s"})
    assert enlarged(config, 5, 0, 80.0).budget.model_dump() == config.budget.model_dump() | {"trials": 15}
    assert enlarged(config, 0, 30, 20.0).budget.time == 90
    assert enlarged(config, 0, 30, 80.0).budget.time == 110
    unlimited = read_config(None, {})
    assert enlarged(unlimited, 0, 30, 80.0).budget.time == 110
    assert enlarged(unlimited, 1, 0, 80.0).budget.time is None


def test_what_a_search_that_goes_on_can_change():
    config = read_config(None, {})
    changed = change_settings(config, ("keep.disk=2GB", "budget.target=0.9"))
    assert (changed.keep.disk, changed.budget.target) == (2e9, 0.9)
    assert change_settings(config, ()) == config
    for setting, words in {
        "seed=3": "start a new one for the rest",
        "keep.dsk=3": "keep",
        "budget.trials=0": "greater than or equal to 1",
    }.items():
        with pytest.raises(ConfigError, match=words):
            change_settings(config, (setting,))


def test_lengths_of_time():
    assert (parse_duration("--add-time", "1.5h"), parse_duration("--add-time", None)) == (5400, 0)
    for wrong in ("soon", "0s"):
        with pytest.raises(ConfigError, match=f"--add-time must be .* but got '{wrong}'"):
            parse_duration("--add-time", wrong)


def test_the_record_of_a_search_that_was_killed_keeps_its_time(ray_session, tmp_path):
    record = run_simulated_search(tmp_path, trials=1, name="calm-fig")
    study = of(tmp_path)
    elsewhere(study, heard_seconds_ago=1000)
    dead = read_study("calm-fig", f"sqlite:///{tmp_path}/studies.db")
    assert (dead.state, dead.seconds) == ("interrupted", 40.0)
    assert record.seconds < 40
