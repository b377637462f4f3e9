import json
import os
import shutil
import subprocess
import sys
import uuid

import pytest

from cluster.capacity import usable_cpus
from cluster.environment import ENVIRONMENT
from tests.cluster.recording_proxy import recording_proxy
from tests.paths import REPOSITORY

OWN_RAY = """
import json, subprocess, sys, time
from pathlib import Path

import psutil
import ray  # before `connect`: Ray's hook for uv reads the environment at import

from cluster.connect import connect
from trainables.storage.root import Root

JOIN = "from cluster.connect import connect\\nwith connect({!r}) as capacity: print(capacity.cpus)"

@ray.remote
def command_lines():
    return [" ".join(process.cmdline()) for process in (psutil.Process(), psutil.Process().parent())]

with connect() as capacity:
    facts = {"cpus": capacity.cpus, "gpus": capacity.gpus, "address": ray.nodes()[0]["NodeManagerAddress"]}
    facts["worker"] = ray.get(command_lines.remote())
    with connect() as same:
        facts["same"] = same.cpus
    facts["inside"] = ray.is_initialized()
    join = [sys.executable, "-c", JOIN.format(ray.get_runtime_context().gcs_address)]
    joined = subprocess.run(join, capture_output=True, text=True, timeout=60)
    facts["joined"] = joined.stdout or joined.stderr
    facts["alive"] = ray.nodes()[0]["Alive"]
    Root(sys.argv[1]).write("key", b"value")
    facts["stored"] = Root(sys.argv[1]).read("key").decode()
    logs = Path(ray._private.worker._global_node.get_logs_dir_path())
    deadline = time.monotonic() + 60
    while not any("Usage reporting is disabled" in file.read_text() for file in logs.glob("dashboard*.log")):
        assert time.monotonic() < deadline, "Ray's module for usage statistics did not start, or they are on"
        time.sleep(0.1)
facts["after"] = ray.is_initialized()
print(json.dumps(facts))
"""


@pytest.fixture(scope="module")
def own_ray(own_cache, bucket_server):
    """Facts about one Ray that `connect` starts under `uv run` and with a proxy; ``proxied``: the requests that the proxy got."""
    from pyarrow.fs import FileSystem

    name = f"bucket-{uuid.uuid4().hex[:12]}"
    FileSystem.from_uri(f"s3://testing:testing@{name}?{bucket_server}&allow_bucket_creation=true")[0].create_dir(name)
    unset = (*ENVIRONMENT, "RAY_ADDRESS", "no_proxy", "NO_PROXY", "UV_NO_PROXY")
    environment = {name: value for name, value in os.environ.items() if name not in unset} | {
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
    }
    under_uv = ["uv", "run", "--no-sync", "--offline"] if shutil.which("uv") else []
    with recording_proxy() as proxy:
        done = subprocess.run(
            [*under_uv, sys.executable, "-c", OWN_RAY, f"s3://{name}?{bucket_server}"],
            capture_output=True,
            text=True,
            timeout=240,
            env=environment | proxy.environment(),
            cwd=REPOSITORY,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1]) | {"proxied": proxy.requests}


def test_own_ray_is_on_loopback_and_ends_with_the_block(own_ray):
    assert own_ray["cpus"] == usable_cpus()
    assert own_ray["gpus"] >= 0
    assert own_ray["address"].startswith("127.")
    assert (own_ray["inside"], own_ray["after"]) == (True, False)


def test_no_request_of_own_ray_passes_a_proxy(own_ray):
    """Neither for its parts, a bucket on loopback or cloud metadata, nor for usage statistics, which nobody has turned on or off."""
    assert own_ray["stored"] == "value"
    assert own_ray["proxied"] == []


@pytest.mark.skipif(shutil.which("uv") is None, reason="uv is not on the path")
def test_under_uv_workers_use_the_existing_environment(own_ray):
    """Even if Ray was imported first: its hook would copy the whole environment, and start each worker through uv."""
    assert not [line for line in own_ray["worker"] if "uv run" in line]


def test_a_ray_of_this_process_is_used_and_left_running(own_ray):
    assert (own_ray["same"], own_ray["inside"]) == (usable_cpus(), True)


def test_a_cluster_is_joined_and_left_running(own_ray):
    assert own_ray["joined"].strip() == str(float(usable_cpus()))
    assert own_ray["alive"]


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "no-such-host:6379"])
def test_an_address_without_an_answer_is_rejected(address):
    code = f"from cluster.connect import connect\nwith connect({address!r}): print('joined')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == ""
    assert f"ResourceError: no Ray cluster answers at {address} (" in done.stderr
