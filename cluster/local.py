"""Starts, finds and ends a real Ray cluster of several nodes on this machine's loopback, with token authentication, to try out clusters."""

import getpass
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from stat import S_ISDIR

import psutil

from cluster.capacity import usable_cpus
from cluster.environment import set_environment
from cluster.token import MODE, make_token
from trainables.errors import ResourceError

STATE = "cluster.json"
START_SECONDS = 120
END_SECONDS = 5
MAX_NODES = 32
WRITABLE_BY_OTHERS = 0o022
MAX_FOLDER_LENGTH = 40
"""Characters of the folder that holds Ray's sockets; the path of a socket may have 107."""


@dataclass(frozen=True)
class LocalCluster:
    """The addresses, folder and size of a cluster that `up` started; also the content of its state file."""

    address: str  # host:port for drivers
    dashboard: str  # http://host:port for jobs
    folder: str  # of Ray's sessions; its path is in the command lines of Ray's processes
    nodes: int


def up(nodes: int, *, cpus: int | None = None) -> LocalCluster:
    """Start a cluster of `nodes` nodes, 1 to 32 with the head, and return it. Its processes outlive this process.

    Each node has `cpus` CPUs and no GPU; by default the nodes share this machine's CPUs evenly, with at least one each. On Linux each has
    an address of its own. Raises ``ResourceError`` if `nodes` is out of range, if such a cluster is up already, if its folder or the
    token cannot be written, or if a node does not start; the nodes started so far are then ended.
    """
    if not 1 <= nodes <= MAX_NODES:
        raise ResourceError(f"--local takes 1 to {MAX_NODES} nodes but got {nodes}")
    _check_none_is_up()
    make_token()
    folder, address, port = str(_folder()), f"{_node_address(0)}:{_free_port()}", _free_port()
    started = LocalCluster(address, f"http://{_node_address(0)}:{port}", folder, nodes)
    _claim(started)
    resources = ["--num-cpus", str(cpus or max(1, usable_cpus() // nodes)), "--num-gpus", "0"]
    head = ["--head", "--port", address.rpartition(":")[2], "--dashboard-host", _node_address(0), "--dashboard-port", str(port)]
    try:
        for number in range(nodes):
            _start(number, started, *(["--address", address] if number else head), *resources)
    except ResourceError:
        down()
        raise
    return started


def down() -> LocalCluster | None:
    """End all processes of the local cluster, delete its folder with Ray's files, and return the cluster; None if there was none.

    Processes that do not end within 5 s are killed.
    """
    known = running_cluster()
    if known is None:
        return None
    processes = list(_processes(f"{known.folder}/", f"--address={known.address}"))
    for process in processes:
        _signal(process, "terminate")
    _, alive = psutil.wait_procs(processes, timeout=END_SECONDS)
    for process in alive:
        _signal(process, "kill")
    psutil.wait_procs(alive, timeout=END_SECONDS)
    shutil.rmtree(known.folder, ignore_errors=True)
    return known


def running_cluster() -> LocalCluster | None:
    """Return the local cluster that this user's `up` started and `down` has not ended; None if there is none.

    It reads the state file and does not check that the processes are alive. A state file that another user could have written is ignored:
    everybody can write into the folder for temporary files.
    """
    folder = _folder()
    try:
        status = folder.lstat()
        if not S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & WRITABLE_BY_OTHERS:
            return None
        known = LocalCluster(**json.loads((folder / STATE).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    return known if known.folder == str(folder) else None


def _folder() -> Path:
    """Return the path of the folder for this user's cluster, in the folder for temporary files, or in ``/tmp`` if that path is too long."""
    name = f"injerto-{getpass.getuser()[:12]}"
    folder = Path(tempfile.gettempdir()) / name
    return folder if len(str(folder)) <= MAX_FOLDER_LENGTH else Path("/tmp") / name


def _check_none_is_up() -> None:
    if (running := running_cluster()) is not None:
        raise ResourceError(f"a local cluster of {running.nodes} nodes is up at {running.address}; end it first: injerto cluster down")


def _claim(started: LocalCluster) -> None:
    """Create the cluster's folder together with its state file in one atomic step; what is left of an earlier cluster is deleted.

    Raises ``ResourceError`` if a cluster is up already, as for the later of two processes that do this at once, or if writing fails.
    """
    folder = Path(started.folder)
    try:
        draft = Path(tempfile.mkdtemp(prefix=f"{folder.name}-", dir=folder.parent))  # only its owner can read it
        try:
            (draft / STATE).write_text(json.dumps(asdict(started)), encoding="utf-8")
            _check_none_is_up()
            shutil.rmtree(folder, ignore_errors=True)
            draft.rename(folder)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    except OSError as error:
        _check_none_is_up()
        raise ResourceError(
            f"cannot create the cluster's folder {folder}: {error.strerror}; set TMPDIR to a folder that you can write to"
        ) from None


def _node_address(number: int) -> str:
    """Return the loopback IP address of the node with this number, from 0. Only Linux uses more of 127.0.0.0/8 than 127.0.0.1."""
    return f"127.0.0.{11 + number}" if sys.platform == "linux" else "127.0.0.1"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((_node_address(0), 0))
        return int(probe.getsockname()[1])


def _start(number: int, cluster: LocalCluster, *arguments: str) -> None:
    """Run ``ray start`` with these arguments for one node. Raises ``ResourceError`` if it fails or takes over 120 s.

    The node's processes outlive this process. Each node has a folder of its own, as a node replaces a job's unpacked
    files while other nodes may still read them.
    """
    port = str(_free_port())  # Ray's default port is the same for every Ray on the machine
    own = ["--node-ip-address", _node_address(number), "--temp-dir", f"{cluster.folder}/{number}", "--dashboard-agent-listen-port", port]
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", *own, *arguments]
    environment = _node_environment(cluster.nodes)
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=START_SECONDS, start_new_session=True)
    except subprocess.TimeoutExpired:
        raise ResourceError(f"node {number} did not start within {START_SECONDS} s; is the machine busy?") from None
    if done.returncode:
        output = [line.strip() for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        raise ResourceError(f"node {number} did not start: {output[-1] if output else f'exit code {done.returncode}'}")


def _node_environment(nodes: int) -> dict[str, str]:
    """Return the environment variables for ``ray start``: this process's own, token authentication, and no proxy between the nodes."""
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
    environment = {**os.environ, MODE: "token", "PATH": path}
    environment.pop("RAY_ADDRESS", None)
    set_environment(*map(_node_address, range(nodes)), environment=environment)
    return environment


def _processes(*marks: str) -> Iterator[psutil.Process]:
    """Yield the processes with one of these texts in their command lines, and their children; never this process or its parents."""
    me = psutil.Process()
    excluded = {me, *me.parents()}
    for process in psutil.process_iter():
        try:
            if process not in excluded and any(mark in word for word in process.cmdline() for mark in marks):
                yield process
                yield from (child for child in process.children(recursive=True) if child not in excluded)
        except psutil.Error:
            continue


def _signal(process: psutil.Process, method: str) -> None:
    try:
        getattr(process, method)()
    except psutil.Error:
        return
