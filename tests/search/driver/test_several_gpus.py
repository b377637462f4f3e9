"""A search with two GPUs for each trial. Ray is told of GPUs that do not exist, so that the processes communicate over gloo."""

import json
import subprocess
import sys

import pytest

from tests.paths import REPOSITORY

SEARCH = """
import json, logging, sys
import ray
from cluster.environment import ENVIRONMENT, LOOPBACK
import os
for name, value in ENVIRONMENT.items():
    os.environ.setdefault(name, value)
quiet = {"include_dashboard": False, "log_to_driver": False, "logging_level": logging.ERROR}
ray.init(address="local", num_cpus=2, num_gpus=2, _node_ip_address=LOOPBACK, **quiet)
from search.config_reader import read_config
from search.driver.launch import launch
photos, place = sys.argv[1:]
options = {"output": f"{place}/out", "storage": f"sqlite:///{place}/s.db", "image_size": 32, "trials": 2, "name": "wide", "weights": "none"}
settings = ("resources.gpus_per_trial=2", "space.backbone=mobilenet_v3_small", "space.epochs=3", "space.batch_size=8",
            "algorithm.scheduler=none")
record = launch(read_config(photos, options, settings))
print(json.dumps([[trial.state, trial.epochs_done, trial.attributes["facts"]["replicas"], trial.attributes["gpu_seconds"],
                   trial.attributes["facts"]["seconds_total"]] for trial in record.trials]))
"""


@pytest.mark.slow
def test_each_trial_trains_in_two_processes(photos, tmp_path):
    command = [sys.executable, "-c", SEARCH, str(photos), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500, cwd=REPOSITORY)
    assert done.returncode == 0, done.stderr[-3000:]
    for state, epochs, replicas, gpu_seconds, seconds in json.loads(done.stdout.splitlines()[-1]):
        assert (state, epochs, replicas) == ("finished", 3, 2)
        assert gpu_seconds == pytest.approx(2 * seconds)
