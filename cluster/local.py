"""A real Ray of several nodes on this machine's loopback, for trying what a cluster does; token on, and ended to the last process."""

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

from cluster.connect import ENVIRONMENT, processors
from cluster.token import MODE, make_token
from trainables.errors import ResourceError

STATE = "cluster.json"
START_SECONDS = 120
END_SECONDS = 5
MOST_NODES = 32
WRITABLE_BY_OTHERS = 0o022
LONGEST_FOLDER = 40
"""Characters of a folder that Ray's sockets may lie below: a socket's path may have 107."""


@dataclass(frozen=True)
class LocalCluster:
    """A cluster that `up` started."""

    address: str  # host:port for drivers
    dashboard: str  # http://host:port for jobs
    folder: str  # of Ray's session; the command lines of its processes name it
    nodes: int


def up(nodes: int, *, cpus: int | None = None) -> LocalCluster:
    """Start a head and workers, each an address of its own, with so many processors each.

    Raises ``ResourceError`` where one is up already, or Ray does not start.
    """
    if not 1 <= nodes <= MOST_NODES:
        raise ResourceError(f"--local takes 1 to {MOST_NODES} nodes but got {nodes}")
    _refuse_second()
    make_token()
    folder, address, port = str(_folder()), f"{_node(0)}:{_free_port()}", _free_port()
    started = LocalCluster(address, f"http://{_node(0)}:{port}", folder, nodes)
    _claim(started)
    each = ["--num-cpus", str(cpus or max(1, processors() // nodes)), "--num-gpus", "0", "--disable-usage-stats"]
    head = ["--head", "--port", address.rpartition(":")[2], "--dashboard-host", _node(0), "--dashboard-port", str(port)]
    try:
        for number in range(nodes):
            joins = ["--address", address] if number else head
            _start(number, folder, *joins, *each)
    except ResourceError:
        down()
        raise
    return started


def down() -> LocalCluster | None:
    """End the local cluster and remove what Ray wrote; return what it was, None where there is none."""
    known = found()
    if known is None:
        return None
    mine = list(_processes(f"{known.folder}/", f"--address={known.address}"))
    for process in mine:
        _signal(process, "terminate")
    _, left = psutil.wait_procs(mine, timeout=END_SECONDS)
    for process in left:
        _signal(process, "kill")
    psutil.wait_procs(left, timeout=END_SECONDS)
    shutil.rmtree(known.folder, ignore_errors=True)
    return known


def found() -> LocalCluster | None:
    """Return the local cluster that `up` has left; others can write into the folder of temporary files, and theirs is none of ours."""
    folder = _folder()
    try:
        facts = folder.lstat()
        if not S_ISDIR(facts.st_mode) or facts.st_uid != os.getuid() or facts.st_mode & WRITABLE_BY_OTHERS:
            return None
        known = LocalCluster(**json.loads((folder / STATE).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    return known if known.folder == str(folder) else None


def _folder() -> Path:
    """Return where this user's cluster lies; not among the caches, which may be deleted at any time."""
    name = f"injerto-{getpass.getuser()[:12]}"
    place = Path(tempfile.gettempdir()) / name
    return place if len(str(place)) <= LONGEST_FOLDER else Path("/tmp") / name


def _refuse_second() -> None:
    if (running := found()) is not None:
        raise ResourceError(f"a local cluster of {running.nodes} nodes is up at {running.address}; end it first: injerto cluster down")


def _claim(started: LocalCluster) -> None:
    """Make the cluster's folder with what is known of it in it, in one step: of two that do so at the same moment one is refused."""
    folder = Path(started.folder)
    try:
        draft = Path(tempfile.mkdtemp(prefix=f"{folder.name}-", dir=folder.parent))  # for its owner alone
        try:
            (draft / STATE).write_text(json.dumps(asdict(started)), encoding="utf-8")
            _refuse_second()
            shutil.rmtree(folder, ignore_errors=True)
            draft.rename(folder)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    except OSError as error:
        _refuse_second()
        raise ResourceError(f"cannot make the cluster's folder {folder}: {error.strerror}; set TMPDIR to a folder of yours") from None


def _node(number: int) -> str:
    """Return a node's address: Linux answers on all of 127/8, others on one of it."""
    return f"127.0.0.{11 + number}" if sys.platform == "linux" else "127.0.0.1"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((_node(0), 0))
        return int(probe.getsockname()[1])


def _start(number: int, folder: str, *arguments: str) -> None:
    """Start a node's processes, which live on when this one ends.

    Each has a folder of its own: a node unpacks a job's files anew, under the feet of others that share its folder.
    """
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
    environment = {**ENVIRONMENT, **os.environ, MODE: "token", "PATH": path}
    environment.pop("RAY_ADDRESS", None)
    port = str(_free_port())  # Ray's own choice is the same for every Ray of the machine
    own = ["--node-ip-address", _node(number), "--temp-dir", f"{folder}/{number}", "--dashboard-agent-listen-port", port]
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", *own, *arguments]
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=START_SECONDS, start_new_session=True)
    except subprocess.TimeoutExpired:
        raise ResourceError(f"node {number} did not start within {START_SECONDS} s; is the machine busy?") from None
    if done.returncode:
        said = [line.strip() for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        raise ResourceError(f"node {number} did not start: {said[-1] if said else f'exit code {done.returncode}'}")


def _processes(*signs: str) -> Iterator[psutil.Process]:
    """Yield the cluster's processes, the ones that their nodes started with them; never the command that asks, or what it runs in."""
    me = psutil.Process()
    spared = {me, *me.parents()}
    for process in psutil.process_iter():
        try:
            if process not in spared and any(sign in word for word in process.cmdline() for sign in signs):
                yield process
                yield from (child for child in process.children(recursive=True) if child not in spared)
        except psutil.Error:
            continue


def _signal(process: psutil.Process, what: str) -> None:
    try:
        getattr(process, what)()
    except psutil.Error:
        return
