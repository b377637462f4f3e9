"""A search that a signal interrupts, and what `injerto resume` makes of it."""

import os
import signal
import time

import psutil
import pytest

from search.record.reader import read_study
from tests.search.cli.commands import main
from tests.search.conftest import IMAGE_SIZE, numbers, start, workers
from tests.waiting import wait_until
from trainables.errors import StorageError

SMALL = ("--image-size", IMAGE_SIZE, "--max-concurrent-trials", 1, "--set", "space.epochs=3")


def wait_for_an_epoch(name, number, process):
    """Wait until a trial of a search has reported an epoch."""

    def reported():
        assert process.poll() is None, process.communicate()
        trials = read_study(name).trials
        return len(trials) > number and trials[number].epochs_done >= 1

    wait_until(reported, 120, f"the first epoch of trial {number}", ignoring=(StorageError,))


def gone(pids, seconds=60):
    """Wait until processes have ended."""
    _, alive = psutil.wait_procs([psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)], timeout=seconds)
    return [process for process in alive if process.status() != psutil.STATUS_ZOMBIE]


@pytest.fixture
def reference(finished):
    return finished.trials[:2]


def assert_as_if_never_interrupted(record, reference):
    assert record.state == "finished"
    assert [trial.number for trial in record.trials] == [trial.number for trial in reference]
    assert [trial.config for trial in record.trials] == [trial.config for trial in reference]
    assert [numbers(trial) for trial in record.trials] == [numbers(trial) for trial in reference]


def test_interrupt_and_resume(home, photos, reference, capsys):
    """Ctrl-C reaches the whole process group; the search pauses, says how to go on, and goes on."""
    process = start("search", photos, *SMALL, "--trials", 2, "--name", "calm-fig", "--seed", 3, "--metric", "loss")
    wait_for_an_epoch("calm-fig", 0, process)
    descendants = [child.pid for child in psutil.Process(process.pid).children(recursive=True)]
    os.killpg(process.pid, signal.SIGINT)
    out, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors
    assert "interrupted by SIGINT: trials pause at their next epoch" in out
    assert "go on with it: injerto resume calm-fig" in out
    assert "Traceback" not in out + errors
    assert not gone(descendants)
    before = read_study("calm-fig")
    assert (before.state, before.counts["running"]) == ("interrupted", 0)
    assert before.counts["paused"] + before.counts["finished"] >= 1

    assert main("resume", "calm-fig") == 0
    assert "calm-fig finished: all 2 trials have ended" in capsys.readouterr().out
    record = read_study("calm-fig")
    assert_as_if_never_interrupted(record, reference)
    for old, new in zip(before.trials, record.trials, strict=False):
        assert new.history["seconds_training"][: old.epochs_done] == old.history["seconds_training"]
    assert (home / "injerto-output" / "calm-fig" / "best.safetensors").exists()


@pytest.mark.slow
def test_killed_driver_and_resume(home, photos, reference, ray_session):
    process = start("search", photos, *SMALL, "--trials", 2, "--name", "calm-fig", "--seed", 3, "--metric", "loss")
    wait_for_an_epoch("calm-fig", 0, process)
    descendants = [worker.pid for worker in workers(process.pid)]
    assert descendants
    process.kill()
    process.communicate()
    assert not gone(descendants)
    assert main("status", "calm-fig") == 0
    before = read_study("calm-fig")
    assert (before.state, before.counts["paused"], before.counts["running"]) == ("interrupted", 1, 0)
    assert main("resume", "calm-fig") == 0
    record = read_study("calm-fig")
    assert_as_if_never_interrupted(record, reference)
    for old, new in zip(before.trials, record.trials, strict=False):
        assert new.history["seconds_training"][: old.epochs_done] == old.history["seconds_training"]


@pytest.mark.slow
def test_a_second_interrupt_ends_at_once_and_can_be_resumed(home, photos):
    process = start("search", photos, *SMALL[:4], "--trials", 1, "--name", "calm-fig", "--set", "space.epochs=200")
    wait_for_an_epoch("calm-fig", 0, process)
    process.send_signal(signal.SIGINT)
    time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in out + errors
    record = read_study("calm-fig")
    assert (record.state, record.trials[0].state) == ("interrupted", "paused")
