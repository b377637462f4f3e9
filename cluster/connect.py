"""Where trials run: a Ray of this machine's own unless told to join one."""

import logging
import os
import re
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

from cluster.capacity import Capacity
from cluster.code_package import copy_code
from cluster.token import make_token, present_token, token_file
from trainables.errors import ResourceError

ANSWER_SECONDS = 5
LOOPBACK = "127.0.0.2" if sys.platform == "linux" else "127.0.0.1"  # Ray takes 127.0.0.1 for the machine's outer address on Linux

ENVIRONMENT = {
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",  # else `uv run` makes Ray build a second environment on every node
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_RESULT_BUFFER_LENGTH": "1",
    "NO_ALBUMENTATIONS_UPDATE": "1",
}
"""What Ray and the workers read from the environment; a user's own values stand."""
WORKERS_READ = ("NO_ALBUMENTATIONS_UPDATE", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "RAY_CHDIR_TO_TRIAL_DIR")
"""Those of them that workers must have from a driver, where others have started their Ray."""
IN_A_JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""Set where a Ray job's entry point runs: the job has brought the code already."""


def processors() -> int:
    """Return the processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def joins(address: str | None = None) -> bool:
    """Say whether `connect` would join a cluster that others have started."""
    ray = sys.modules.get("ray")  # not imported here: it reads its environment, which `connect` sets first
    return bool(address or os.environ.get("RAY_ADDRESS")) and not (ray is not None and ray.is_initialized())


@contextmanager
def connect(address: str | None = None) -> Iterator[Capacity]:
    """Start a Ray on loopback, or join the one at `address` or ``RAY_ADDRESS``, and leave it at the end; use one that this process has."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    import ray

    address = address or os.environ.get("RAY_ADDRESS")
    own = not ray.is_initialized()
    if own and address:
        _join(address)
    elif own:
        make_token()
        with _apart():
            ray.init(
                address="local",
                num_cpus=processors(),
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
                _node_ip_address=LOOPBACK,
            )
    try:
        yield capacity()
    finally:
        if own:
            ray.shutdown()


def capacity() -> Capacity:
    """Return the resources of the living nodes of the cluster that this process has joined."""
    import ray

    return Capacity(tuple(dict(node["Resources"]) for node in ray.nodes() if node["Alive"]))


def worker_environment() -> dict[str, str]:
    """Return what workers must find in their environment."""
    return {name: os.environ.get(name, ENVIRONMENT[name]) for name in WORKERS_READ}


def died() -> list[str]:
    """Return which of this process's own Ray's processes have ended; none where it has joined another's."""
    from ray._private import worker

    node = worker._global_node
    return [kind for kind, _ in node.dead_processes()] if node is not None else []


def nodes() -> list[dict[str, Any]]:
    """Return the nodes of the cluster that this process has joined: name, whether it is alive, processors, GPUs."""
    import ray

    return [
        {
            "node": node["NodeManagerHostname"],
            "alive": node["Alive"],
            "cpus": node["Resources"].get("CPU", 0.0),
            "gpus": node["Resources"].get("GPU", 0.0),
        }
        for node in ray.nodes()
    ]


@contextmanager
def _apart() -> Iterator[None]:
    """Start Ray's processes in groups of their own: a terminal's Ctrl-C, or its end, is for the driver, which then ends them in order."""
    from ray._private import services

    with patch.object(services, "ConsolePopen", partial(services.ConsolePopen, process_group=0)), _quiet():
        yield


@contextmanager
def _quiet() -> Iterator[None]:
    """Connect without the thread that prints a paragraph for each lost worker: the search says it in a line.

    And without a second environment of gigabytes for each node: who has imported Ray before us had it read the variable before we set it.
    """
    from ray._private import ray_constants, worker

    copies = os.environ["RAY_ENABLE_UV_RUN_RUNTIME_ENV"].lower() in ("1", "true")
    silence = patch.object(worker, "listen_error_messages", lambda *arguments: None)
    with silence, patch.object(ray_constants, "RAY_ENABLE_UV_RUN_RUNTIME_ENV", copies):
        yield


def _join(address: str) -> None:
    import ray

    if address.startswith(("http://", "https://")):
        raise ResourceError(f"{address} takes jobs, not drivers: use injerto submit, or name the cluster as host:port or auto")
    wanted, address = address, _of_this_machine() if address == "auto" else address
    _refuse_silent(address)
    present_token()
    try:
        with _quiet(), tempfile.TemporaryDirectory() as folder:
            brings = {} if IN_A_JOB in os.environ else {"py_modules": copy_code(Path(folder)), "env_vars": worker_environment()}
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, runtime_env=brings)
    except (ConnectionError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        hint = "; start one here with injerto cluster up --local 2, or name yours as host:port" if wanted == "auto" else ""
        raise ResourceError(f"cannot join the Ray cluster at {address}: {_reason(error)}{hint}") from None


def _of_this_machine() -> str:
    """Return the address of the cluster that `cluster.local.up` has started here; else Ray looks for one by itself."""
    from cluster.local import found

    here = found()
    return "auto" if here is None else here.address


def _reason(error: Exception) -> str:
    """Return what keeps a driver out, and what to do."""
    text = str(error).strip()
    if versions := re.findall(r"(Ray|Python): (\S+)", text):
        theirs, ours = (", ".join(f"{name} {number}" for name, number in versions[half : half + 2]) for half in (0, 2))
        return f"it runs {theirs}, and here is {ours}; install the same versions here"
    if "uthenticat" in text or "token" in text.lower() or "Failed to connect to Ray cluster" in text:  # a port of it has answered
        return f"it does not take the token of this machine; copy the cluster's to {token_file()}, readable by you alone"
    return text.splitlines()[0] if text else type(error).__name__


def _refuse_silent(address: str) -> None:
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not (host and port.isdigit()):
        return
    try:
        socket.create_connection((host, int(port)), timeout=ANSWER_SECONDS).close()
    except OSError as error:
        raise ResourceError(f"no Ray cluster answers at {address} ({error}); start one there, or leave out --address") from None
