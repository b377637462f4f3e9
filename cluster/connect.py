"""Where trials run: a Ray of this machine's own unless told to join one."""

import logging
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any
from unittest.mock import patch

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


@dataclass(frozen=True)
class Capacity:
    """What the cluster can run at once."""

    cpus: float
    gpus: float

    def slots(self, cpus_per_trial: float, gpus_per_trial: float) -> int:
        """Return how many trials fit."""
        by_gpu = self.gpus / gpus_per_trial if gpus_per_trial else float("inf")
        return int(min(self.cpus / cpus_per_trial, by_gpu) + 1e-9)


def processors() -> int:
    """Return the processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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
        total = ray.cluster_resources()
        yield Capacity(total.get("CPU", 0.0), total.get("GPU", 0.0))
    finally:
        if own:
            ray.shutdown()


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

    _refuse_silent(address)
    try:
        with _quiet():
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise ResourceError(f"cannot join the Ray cluster at {address}: {str(error).strip().splitlines()[0]}") from None


def _refuse_silent(address: str) -> None:
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not (host and port.isdigit()):
        return
    try:
        socket.create_connection((host, int(port)), timeout=ANSWER_SECONDS).close()
    except OSError as error:
        raise ResourceError(f"no Ray cluster answers at {address} ({error}); start one there, or leave out --address") from None
