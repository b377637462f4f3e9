"""One driver a study, and the commands that other processes send to it."""

import socket
import threading
import time

import optuna
import pytest

from search.driver.launch import resume
from search.record import lease
from search.record.reader import read_study
from search.record.store import load_study, open_storage
from tests.search.simulated_search import run_simulated_search
from tests.search.watchers import ActOnce
from tests.waiting import wait_until
from trainables.errors import StorageError
from trainables.worker.simulated_trial import SimulatedTrial, Simulation


@pytest.fixture
def study(tmp_path):
    study = optuna.create_study(storage=open_storage(f"sqlite:///{tmp_path}/studies.db", create=True), study_name="calm-fig")
    study.set_user_attr("status", {"state": "interrupted"})
    return study


def of(tmp_path, name="calm-fig"):
    return load_study(open_storage(f"sqlite:///{tmp_path}/studies.db"), name)


def test_a_driver_is_alive_while_it_holds_the_lease(study, tmp_path):
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


def test_a_driver_that_could_not_record_its_end_is_not_alive(study, tmp_path):
    """Its last write failed on a full disk, but its process lives on, for example a notebook."""
    with lease.Lease(study, tmp_path, 0.0):
        assert lease.driver_is_alive(study.user_attrs)
    assert study.user_attrs["status"]["state"] == "running"
    assert not lease.driver_is_alive(study.user_attrs)


def record_other_host(study, heartbeat_age):
    """Make a study's record that of a driver on another host, whose last heartbeat is so many seconds old."""
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
    study.set_user_attr("heartbeat", {"driver": "x", "at": time.time() - heartbeat_age, "used_seconds": 40.0})


def test_a_driver_on_another_host_is_alive_while_its_heartbeat_is_recent(study, tmp_path):
    record_other_host(study, heartbeat_age=lease.SILENCE_SECONDS / 2)
    with pytest.raises(StorageError, match=r"running since 2026-01-01T00:00:00 on another\.host"), lease.Lease(study, tmp_path, 0):
        pass
    record_other_host(study, heartbeat_age=lease.SILENCE_SECONDS + 1)
    assert not lease.driver_is_alive(study.user_attrs)
    with lease.Lease(study, tmp_path, 40.0) as held:
        assert held.takeover() is None
        record_other_host(study, heartbeat_age=0)
        assert held.takeover() == "the driver on another.host (process 1) took the study over at 2026-01-01T00:00:00"


def test_a_command_is_pending_until_it_is_answered(study):
    key = lease.send_command(study, "pause")
    assert lease.pending_commands(study)[key]["do"] == "pause"
    assert lease.answer_to(study, key) is None
    lease.answer_command(study, key, "it pauses")
    assert lease.pending_commands(study) == {}
    assert lease.answer_to(study, key) == "it pauses"


def test_a_new_driver_answers_old_commands_as_too_late(study, tmp_path):
    key = lease.send_command(study, "pause")
    with lease.Lease(study, tmp_path, 0.0):
        assert "too late" in lease.answer_to(study, key)


def test_request_rejects_a_study_that_does_not_run(study):
    with pytest.raises(StorageError, match=r"'calm-fig' is not running \(interrupted\)"):
        lease.request(study, "pause")


@pytest.mark.parametrize(("command", "state"), [("pause", "interrupted"), ("finish", "finished")])
def test_pause_and_finish_commands_stop_a_running_search(command, state, ray_session, tmp_path, monkeypatch):
    monkeypatch.setattr("search.driver.drive.COMMAND_SECONDS", 0.1)
    answers = []

    def ask():
        answers.append(lease.request(of(tmp_path), command))

    asking = ActOnce("epoch", lambda: threading.Thread(target=ask).start())
    record = run_simulated_search(tmp_path, Simulation(seconds=1.5), trials=50, name="calm-fig", watcher=asking, max_concurrent_trials=2)
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
    wait_until(lambda: answers, 10, "the driver's answer")
    assert "running trials" in answers[0]


def test_a_killed_search_has_the_seconds_of_its_last_heartbeat(ray_session, tmp_path):
    record = run_simulated_search(tmp_path, trials=1, name="calm-fig")
    study = of(tmp_path)
    record_other_host(study, heartbeat_age=1000)
    dead = read_study("calm-fig", f"sqlite:///{tmp_path}/studies.db")
    assert (dead.state, dead.seconds) == ("interrupted", 40.0)
    assert record.seconds < 40
