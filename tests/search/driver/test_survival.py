"""Drivers, workers and nodes are killed and disks fill up during real searches. All are slow."""

import json
import random
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress

import psutil
import pytest

from search.driver.launch import resume
from search.record.reader import read_study
from search.watcher import SilentWatcher
from tests.search.conftest import IMAGE_SIZE, REFERENCE, UNTRAINED, numbers, start, workers
from tests.waiting import wait_until
from trainables.errors import ResourceError, StorageError

TRIALS = 5
SMALL = (*UNTRAINED, "--image-size", IMAGE_SIZE, "--max-concurrent-trials", 1, "--set", "space.epochs=3")
OPTIONS = (*SMALL, "--seed", 3, "--metric", "loss")


def assert_equals_undisturbed(record, reference):
    """Assert that metrics, configurations, states and reasons equal those of an undisturbed search."""
    assert record.state == "finished"
    assert [trial.number for trial in record.trials] == [trial.number for trial in reference]
    assert [(trial.state, trial.stop_reason) for trial in record.trials] == [(trial.state, trial.stop_reason) for trial in reference]
    assert [trial.config for trial in record.trials] == [trial.config for trial in reference]
    assert [numbers(trial) for trial in record.trials] == [numbers(trial) for trial in reference]


def epochs_of(name):
    return {trial.number: list(trial.intermediate.values()) for trial in read_study(name).trials}


def wait_until_running(name, process):
    def running():
        assert process.poll() is None, process.communicate()
        return read_study(name).state == "running"

    wait_until(running, 120, f"the search {name}", ignoring=(StorageError,))


def wait_for_a_worker(process):
    wait_until(lambda: process.poll() is not None or workers(process.pid), 60, "a worker")


@pytest.mark.slow
def test_a_driver_killed_at_five_random_moments_changes_no_result(home, photos, finished):
    """SIGKILL within the first seconds of each run: no recorded epoch is lost or trained again."""
    draw, recorded, runs = random.Random(5), {}, 0
    process = start("search", photos, *OPTIONS, "--trials", TRIALS, "--name", "calm-fig")
    for _ in range(5):
        wait_until_running("calm-fig", process)
        time.sleep(draw.uniform(0, 9))
        if process.poll() is not None:
            break
        process.send_signal(signal.SIGKILL)
        process.communicate()
        runs += 1
        before = read_study("calm-fig")
        assert (before.state, before.counts["running"]) == ("interrupted", 0)
        now = epochs_of("calm-fig")
        assert all(now[number][: len(values)] == values for number, values in recorded.items())
        recorded = now
        process = start("resume", "calm-fig")
    out, errors = process.communicate(timeout=300)
    assert process.returncode == 0, out + errors
    assert runs >= 3
    assert_equals_undisturbed(read_study("calm-fig"), finished.trials[:TRIALS])


@pytest.mark.slow
def test_a_worker_killed_at_five_random_moments_changes_no_result(search, photos, finished):
    """Each kill follows a new epoch: three lost workers at one epoch would rightly fail the trial."""
    draw, victims, due = random.Random(7), [], []

    def kill():
        for worker in workers():
            victims.append(worker.pid)
            worker.kill()
        due.clear()

    class Killing(SilentWatcher):
        def event(self, event):
            if event.kind == "epoch" and not due and len(victims) < 5:
                due.append(threading.Timer(draw.uniform(0, 1.5), kill))
                due[0].start()

    record = search(photos, trials=TRIALS, name="calm-fig", watcher=Killing(), **REFERENCE)
    assert len(victims) >= 3
    assert_equals_undisturbed(record, finished.trials[:TRIALS])
    assert sum(len(trial.attributes.get("retries", [])) for trial in record.trials) >= 3


@pytest.mark.slow
def test_a_signal_to_the_whole_process_group_pauses_the_search(home, photos, finished):
    """A closed terminal and a service manager do this. Ray's processes are not in the driver's group."""
    import os

    process = start("search", photos, *OPTIONS, "--trials", TRIALS, "--name", "calm-fig")
    for number in (signal.SIGTERM, signal.SIGHUP):
        wait_until_running("calm-fig", process)
        wait_for_a_worker(process)
        time.sleep(2)
        os.killpg(process.pid, number)
        out, errors = process.communicate(timeout=120)
        assert process.returncode == 130, out + errors
        assert f"interrupted by {signal.Signals(number).name}" in out
        record = read_study("calm-fig")
        assert (record.state, record.counts["failed"], record.counts["running"]) == ("interrupted", 0, 0)
        assert not (record.folder / "ray").exists()
        process = start("resume", "calm-fig")
    out, errors = process.communicate(timeout=300)
    assert process.returncode == 0, out + errors
    assert_equals_undisturbed(read_study("calm-fig"), finished.trials[:TRIALS])


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 150 MB. Its tests are skipped where none can be mounted."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=150m", "tmpfs", str(folder)], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.slow
@pytest.mark.parametrize("full", ["states", "record"])
def test_a_full_disk_pauses_the_search_and_resume_changes_no_result(full, search, photos, finished, small_disk, tmp_path, monkeypatch):
    import search.record.record_writer as record_writer

    monkeypatch.setattr(record_writer, "FULL_DISK_PATIENCE_SECONDS", 3.0)
    ballast = small_disk / "ballast"
    places = {"output": str(small_disk)} if full == "states" else {"storage": f"sqlite:///{small_disk}/studies.db"}
    storage = places.get("storage", f"sqlite:///{tmp_path}/studies.db")

    class Filling(SilentWatcher):
        def event(self, event):
            if (event.kind, event.number, event.epoch) == ("epoch", 1, 1):
                with ballast.open("wb", buffering=0) as file, suppress(OSError):
                    while file.write(b"0" * 65536):
                        pass

    with pytest.raises((ResourceError, StorageError), match=r"(disk|space|full).*go on: injerto resume calm-fig"):
        search(photos, trials=TRIALS, name="calm-fig", watcher=Filling(), **places, **REFERENCE)
    ballast.unlink()
    before = read_study("calm-fig", storage)
    assert (before.state, before.counts["failed"], before.counts["running"]) == ("interrupted", 0, 0)
    record = resume("calm-fig", storage)
    assert_equals_undisturbed(record, finished.trials[:TRIALS])


def program(body, *arguments, seconds=300):
    """Run a program over simulated trials in a process of its own; return the JSON of its last line."""
    done = subprocess.run([sys.executable, "-c", body, *map(str, arguments)], capture_output=True, text=True, timeout=seconds)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


NODES = """
import json, sys, threading
from cluster.environment import ENVIRONMENT
import os
os.environ.update(ENVIRONMENT | {"RAY_AUTH_MODE": "disabled"})
from ray.cluster_utils import Cluster
from search.watcher import SilentWatcher
from tests.search.simulated_search import run_simulated_search
from trainables.worker.simulated_trial import Simulation
from pathlib import Path

cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
nodes = [cluster.add_node(num_cpus=2) for _ in range(2)]
removed = threading.Event()

def remove():
    cluster.remove_node(nodes[0], allow_graceful=False)
    removed.set()

class Watching(SilentWatcher):
    began = 0
    def event(self, event):
        self.began += event.kind == "epoch"
        if self.began == 6:
            self.began += 1
            threading.Thread(target=remove).start()

options = {"trials": 12, "name": "calm-fig", "watcher": Watching(), "address": cluster.address}
record = run_simulated_search(Path(sys.argv[1]), Simulation(seconds=6), **options)
retries = [retry["kind"] for trial in record.trials for retry in trial.attributes.get("retries", [])]
values = [list(trial.intermediate.values()) == trial.history["objective"] for trial in record.trials]
print(json.dumps({"state": record.state, "counts": record.counts, "retries": retries, "removed": removed.is_set(), "whole": all(values)}))
"""


@pytest.mark.slow
def test_trials_of_a_removed_node_continue_elsewhere(tmp_path):
    found = program(NODES, tmp_path)
    assert (found["state"], found["removed"], found["whole"]) == ("finished", True, True)
    assert found["counts"]["finished"] == 12
    assert set(found["retries"]) <= {"lost node", "lost worker"}
    assert "lost node" in found["retries"]


HUNGRY = """
import json, os, sys, time
from cluster.environment import ENVIRONMENT, LOOPBACK
os.environ.update(ENVIRONMENT)
import psutil, ray
from pathlib import Path
from tests.search import simulated_search
from trainables.worker.simulated_trial import SimulatedTrainer, Simulation, SimulatedTrial

memory = psutil.virtual_memory()
threshold = memory.percent / 100 + 0.06
ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False, _node_ip_address=LOOPBACK,
         _system_config={"memory_monitor_refresh_ms": 50, "memory_usage_threshold": threshold})

class HungryTrial(SimulatedTrial):
    "Trial 1 allocates without end in its third epoch."
    def step(self):
        if self._assignment["assignment"]["number"] == 1 and self._trainer is not None and self._trainer.epoch == 2:
            held = []
            while True:
                held.append(bytearray(os.urandom(1) * 50_000_000))
                time.sleep(0.02)
        return super().step()

SimulatedTrial.of = classmethod(lambda cls, replay: HungryTrial)
record = simulated_search.run_simulated_search(Path(sys.argv[1]), trials=3, name="calm-fig", max_concurrent_trials=1)
print(json.dumps({"state": record.state, "trials": [[t.state, t.error and t.error["kind"], t.epochs_done] for t in record.trials],
                  "message": record.trials[1].stop_reason, "tries": len(record.trials[1].attributes["retries"])}))
"""


@pytest.mark.slow
def test_a_worker_killed_by_the_memory_monitor_fails_its_trial_as_out_of_memory(tmp_path):
    if psutil.virtual_memory().percent > 80:
        pytest.skip("too much memory is in use for the monitor to have something to watch")
    found = program(HUNGRY, tmp_path)
    assert found["state"] == "finished"
    assert found["trials"] == [["finished", None, 5], ["failed", "out of memory", 2], ["finished", None, 5]]
    assert found["tries"] == 2
    assert found["message"].startswith("out of memory: ")
