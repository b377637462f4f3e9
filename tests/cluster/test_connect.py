import json
import os
import shutil
import subprocess
import sys

import pytest

from cluster.connect import ENVIRONMENT, connect, processors
from tests.paths import REPOSITORY

OWN = """
import json, os, ray
from cluster.connect import connect
with connect() as capacity:
    address = ray.nodes()[0]["NodeManagerAddress"]
    inside = ray.is_initialized()
print(json.dumps([capacity.cpus, capacity.gpus, address, inside, ray.is_initialized(), os.environ["RAY_USAGE_STATS_ENABLED"]]))
"""


def test_processors_are_those_that_this_process_may_use():
    assert 1 <= processors() <= os.cpu_count()


def test_own_ray_on_loopback_ends_with_the_block(own_cache):
    environment = {name: value for name, value in os.environ.items() if name not in ENVIRONMENT and name != "RAY_ADDRESS"}
    done = subprocess.run([sys.executable, "-c", OWN], capture_output=True, text=True, timeout=120, env=environment)
    cpus, gpus, address, inside, after, statistics = json.loads(done.stdout.splitlines()[-1])
    assert cpus == processors()
    assert gpus >= 0
    assert address.startswith("127.")
    assert (inside, after, statistics) == (True, False, "0")


UNDER_UV = """
import json, psutil, ray
from cluster.connect import connect

@ray.remote
def above():
    return [" ".join(process.cmdline()) for process in (psutil.Process(), psutil.Process().parent())]

with connect():
    print(json.dumps(ray.get(above.remote())))
"""


@pytest.mark.skipif(shutil.which("uv") is None, reason="uv is not on the path")
def test_under_uv_workers_use_the_environment_that_is_there(own_cache):
    """Even where Ray was imported first: its hook would copy the whole environment, and start each worker through uv."""
    environment = {name: value for name, value in os.environ.items() if name not in ENVIRONMENT and name != "RAY_ADDRESS"}
    command = ["uv", "run", "--no-sync", "python", "-c", UNDER_UV]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, env=environment, cwd=REPOSITORY)
    assert done.returncode == 0, done.stderr
    assert not [line for line in json.loads(done.stdout.splitlines()[-1]) if "uv run" in line]


def test_a_ray_that_the_process_has_is_used_and_left(ray_session):
    with connect() as capacity:
        assert capacity.cpus == 2
    assert ray_session.is_initialized()


def test_a_cluster_is_joined_and_left(ray_session):
    address = ray_session.get_runtime_context().gcs_address
    code = OWN.replace("connect()", f"connect({address!r})")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert json.loads(done.stdout.splitlines()[-1])[0] == 2
    assert ray_session.nodes()[0]["Alive"]


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "no-such-host:6379"])
def test_a_silent_address_is_refused(address):
    code = f"from cluster.connect import connect\nwith connect({address!r}): print('joined')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == ""
    assert f"ResourceError: no Ray cluster answers at {address} (" in done.stderr
