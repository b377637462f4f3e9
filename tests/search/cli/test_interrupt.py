"""Searches that a signal interrupts or kills, and `injerto resume` after that."""

import os
import signal
import time

import psutil
import pytest

from search.record.reader import read_study
from tests.search.cli.commands import main
from tests.search.conftest import IMAGE_SIZE, UNTRAINED, numbers, start, workers
from tests.waiting import wait_until
from trainables.errors import StorageError

SMALL = (*UNTRAINED, "--image-size", IMAGE_SIZE, "--max-concurrent-trials", 1, "--set", "space.epochs=3")


def wait_for_an_epoch(name, number, process):
    """Wait until a trial of a search has reported an epoch."""

    def reported():
        assert process.poll() is None, process.communicate()
        trials = read_study(name).trials
        return len(trials) > number and trials[number].epochs_done >= 1

    wait_until(reported, 120, f"the first epoch of trial {number}", ignoring=(StorageError,))


def still_running(pids, seconds=60):
    """Wait for processes to end; return those that still run after so many seconds."""
    _, alive = psutil.wait_procs([psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)], timeout=seconds)
    return [process for process in alive if process.status() != psutil.STATUS_ZOMBIE]


@pytest.fixture
def reference(finished):
    return finished.trials[:2]


def assert_equals_uninterrupted(record, reference):
    assert record.state == "finished"
    assert [trial.number for trial in record.trials] == [trial.number for trial in reference]
    assert [trial.config for trial in record.trials] == [trial.config for trial in reference]
    assert [numbers(trial) for trial in record.trials] == [numbers(trial) for trial in reference]


def interrupt(photos):
    """Search, send SIGINT to the whole process group after the first epoch, as Ctrl-C does, and return the record of the paused search."""
    process = start("search", photos, *SMALL, "--trials", 2, "--name", "calm-fig", "--seed", 3, "--metric", "loss")
    wait_for_an_epoch("calm-fig", 0, process)
    descendants = [child.pid for child in psutil.Process(process.pid).children(recursive=True)]
    os.killpg(process.pid, signal.SIGINT)
    out, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors
    assert "interrupted by SIGINT: trials pause at their next epoch" in out
    assert "go on with it: injerto resume calm-fig" in out
    assert "Traceback" not in out + errors
    assert not still_running(descendants)
    return read_study("calm-fig")


def test_ctrl_c_pauses_a_search_and_says_how_to_go_on(home, photos):
    paused = interrupt(photos)
    assert (paused.state, paused.counts["running"]) == ("interrupted", 0)
    assert paused.counts["paused"] + paused.counts["finished"] >= 1


@pytest.mark.slow
def test_resume_after_ctrl_c_equals_an_uninterrupted_search(home, photos, reference, ray_session, capsys):
    paused = interrupt(photos)
    assert main("resume", "calm-fig") == 0
    assert "calm-fig finished: all 2 trials have ended" in capsys.readouterr().out
    record = read_study("calm-fig")
    assert_equals_uninterrupted(record, reference)
    for old, new in zip(paused.trials, record.trials, strict=False):
        assert new.history["seconds_training"][: old.epochs_done] == old.history["seconds_training"]
    assert (home / "injerto-output" / "calm-fig" / "best.safetensors").exists()


@pytest.mark.slow
def test_resume_after_a_killed_driver_equals_an_uninterrupted_search(home, photos, reference, ray_session):
    process = start("search", photos, *SMALL, "--trials", 2, "--name", "calm-fig", "--seed", 3, "--metric", "loss")
    wait_for_an_epoch("calm-fig", 0, process)
    descendants = [worker.pid for worker in workers(process.pid)]
    assert descendants
    process.kill()
    process.communicate()
    assert not still_running(descendants)
    assert main("status", "calm-fig") == 0
    before = read_study("calm-fig")
    assert (before.state, before.counts["paused"], before.counts["running"]) == ("interrupted", 1, 0)
    assert main("resume", "calm-fig") == 0
    record = read_study("calm-fig")
    assert_equals_uninterrupted(record, reference)
    for old, new in zip(before.trials, record.trials, strict=False):
        assert new.history["seconds_training"][: old.epochs_done] == old.history["seconds_training"]


@pytest.mark.slow
def test_a_second_ctrl_c_ends_the_search_at_once_and_leaves_it_paused(home, photos):
    process = start("search", photos, *SMALL[:-2], "--trials", 1, "--name", "calm-fig", "--set", "space.epochs=200")
    wait_for_an_epoch("calm-fig", 0, process)
    process.send_signal(signal.SIGINT)
    time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in out + errors
    record = read_study("calm-fig")
    assert (record.state, record.trials[0].state) == ("interrupted", "paused")
