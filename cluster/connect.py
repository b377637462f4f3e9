"""Connects this process to the Ray that trials run on (its own, or an existing cluster), and reports the nodes of that Ray."""

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

from cluster.capacity import Capacity, usable_cpus
from cluster.code_package import copy_code
from cluster.environment import LOOPBACK, set_environment, worker_environment
from cluster.local import running_cluster
from cluster.proxies import add_direct_hosts, host_of
from cluster.token import make_token, present_token, token_file
from trainables.errors import ResourceError

ANSWER_SECONDS = 5
IN_A_JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""Ray sets this variable in a job's driver; the job has uploaded the code already."""


def joins_cluster(address: str | None = None) -> bool:
    """Return whether `connect` with this address would join an existing cluster.

    None stands for ``RAY_ADDRESS``. Without either address, or if this process is connected to a Ray already, the result is False.
    """
    ray = sys.modules.get("ray")  # not imported here: it reads its environment, which `connect` sets first
    return bool(address or os.environ.get("RAY_ADDRESS")) and not (ray is not None and ray.is_initialized())


@contextmanager
def connect(address: str | None = None) -> Iterator[Capacity]:
    """Connect this process to a Ray, yield the resources of its nodes, and disconnect at the end of the block.

    If this process is connected to a Ray already, that one is used and stays connected. Else the cluster at `address` (``host:port`` or
    ``auto``) or ``RAY_ADDRESS`` is joined. Without an address this process starts a Ray on loopback, which ends with the block.
    Raises ``ResourceError`` if the cluster cannot be joined, or if Ray's token cannot be written.
    """
    set_environment()
    import ray

    address = address or os.environ.get("RAY_ADDRESS")
    own = not ray.is_initialized()
    if own and address:
        _join(address)
    elif own:
        make_token()
        with _own_process_groups():
            ray.init(
                address="local",
                num_cpus=usable_cpus(),
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
    """Return the resources, now, of the nodes that are alive in the Ray that this process is connected to."""
    import ray

    return Capacity(tuple(dict(node["Resources"]) for node in ray.nodes() if node["Alive"]))


def dead_ray_processes() -> list[str]:
    """Return the kind of each process, such as ``raylet``, that has ended although this process started it for its own Ray.

    The list is empty if all are alive, or if this process has joined a cluster.
    """
    from ray._private import worker

    node = worker._global_node
    return [kind for kind, _ in node.dead_processes()] if node is not None else []


def node_states() -> list[dict[str, Any]]:
    """Return one mapping for each node, dead ones included, of the Ray that this process is connected to.

    Its keys are ``node`` (host name), ``alive``, ``cpus`` and ``gpus``.
    """
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
def _own_process_groups() -> Iterator[None]:
    """Within the block, make ``ray.init`` start each of Ray's processes in a process group of its own, and apply `_quiet`.

    A terminal sends Ctrl-C and its hang-up to the driver's group only. The driver then ends Ray's processes in order.
    """
    from ray._private import services

    with patch.object(services, "ConsolePopen", partial(services.ConsolePopen, process_group=0)), _quiet():
        yield


@contextmanager
def _quiet() -> Iterator[None]:
    """Within the block, make ``ray.init`` start no thread that prints a paragraph for each lost worker; the search prints one line.

    Ray reads ``RAY_ENABLE_UV_RUN_RUNTIME_ENV`` at import. A program may have imported Ray before `set_environment` set that variable, and
    Ray would then build a copy of the environment on every node; so its present value is also applied within the block.
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
    wanted, address = address, _local_cluster_address() if address == "auto" else address
    _check_reachable(address)
    present_token()
    host = host_of(address) if address != "auto" else ""
    add_direct_hosts(host)
    try:
        with _quiet(), tempfile.TemporaryDirectory() as folder:
            runtime_env = {} if IN_A_JOB in os.environ else {"py_modules": copy_code(Path(folder)), "env_vars": worker_environment(host)}
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, runtime_env=runtime_env)
    except (ConnectionError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        hint = "; start one here with injerto cluster up --local 2, or name yours as host:port" if wanted == "auto" else ""
        raise ResourceError(f"cannot join the Ray cluster at {address}: {_join_error(error)}{hint}") from None
    add_direct_hosts(ray.util.get_node_ip_address(), host_of(ray.get_runtime_context().gcs_address))


def _local_cluster_address() -> str:
    """Return ``host:port`` of the cluster that `cluster.local.up` has started here, else ``auto``: Ray then looks for one by itself."""
    cluster = running_cluster()
    return "auto" if cluster is None else cluster.address


def _join_error(error: Exception) -> str:
    """Return a phrase that says why Ray refused to connect: other versions, another token, or else the first line of the error.

    For the first two it also says what to do.
    """
    text = str(error).strip()
    if versions := re.findall(r"(Ray|Python): (\S+)", text):
        theirs, ours = (", ".join(f"{name} {number}" for name, number in versions[half : half + 2]) for half in (0, 2))
        return f"it runs {theirs}, and here is {ours}; install the same versions here"
    if "uthenticat" in text or "token" in text.lower() or "Failed to connect to Ray cluster" in text:  # a port of it has answered
        return f"it does not accept the token of this machine; copy the cluster's to {token_file()}, readable by you alone"
    return text.splitlines()[0] if text else type(error).__name__


def _check_reachable(address: str) -> None:
    """Raise ``ResourceError`` if nothing accepts a connection at ``host:port`` within 5 s; Ray itself would try for longer.

    An address without a port, such as ``auto``, is not checked.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not (host and port.isdigit()):
        return
    try:
        socket.create_connection((host, int(port)), timeout=ANSWER_SECONDS).close()
    except OSError as error:
        raise ResourceError(f"no Ray cluster answers at {address} ({error}); start one there, or leave out --address") from None
