"""Simulated machines: network namespaces, each with an address, a host name and a cache, connected by a bridge.

Their network can be cut. They need root and iproute2; `missing` returns what is not available. Names and the subnet are those of this
process, so that several test runs can have machines at the same time.
"""

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PREFIX = f"ij{os.getpid():x}"
"""Starts the names of this process's namespaces and network devices; a device's name may have 15 characters."""
HEAD_PORT, DASHBOARD_PORT, AGENT_PORT = 6379, 8265, 52365  # the same in every namespace, each of which has its own ports
START_SECONDS = 90


def missing():
    """Return why there can be no machines here; None if there can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if any(shutil.which(program) is None for program in ("ip", "unshare")):
        return "no iproute2 on this machine: apt-get install iproute2"
    probe = subprocess.run(["ip", "netns", "add", f"{PREFIX}-probe"], capture_output=True, text=True)
    subprocess.run(["ip", "netns", "del", f"{PREFIX}-probe"], capture_output=True)
    return f"no network namespaces here: {probe.stderr.strip()}" if probe.returncode else None


def ip(*arguments):
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


def free_network():
    """Return the first three numbers of a /24 network in 10.128.0.0/9 that no device of this machine uses."""
    used = subprocess.run(["ip", "-4", "-o", "addr"], capture_output=True, text=True, check=True).stdout
    candidates = [f"10.{128 + number // 256}.{number % 256}" for number in random.SystemRandom().sample(range(128 * 256), 100)]
    return next(network for network in candidates if f" {network}." not in used)


class Machines:
    """A Ray cluster of simulated machines: `head`, and others that `add` starts.

    `outside` is this machine's own address on the bridge: tests submit from it, and their database and bucket are there.
    """

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder, self.environment = folder, environment
        self.numbers: dict[str, int] = {}
        self.hidden: set[str] = set()
        self.network, self.last = free_network(), 10
        self.outside = f"{self.network}.1"
        self.session = tempfile.mkdtemp(prefix="ray-", dir="/tmp")  # of sockets, whose paths must be short
        ip("link", "add", PREFIX, "type", "bridge")
        ip("addr", "add", f"{self.outside}/24", "dev", PREFIX)
        ip("link", "set", PREFIX, "up")

    @property
    def dashboard(self):
        return f"http://{self.address('head')}:{DASHBOARD_PORT}"

    @property
    def gcs(self):
        return f"{self.address('head')}:{HEAD_PORT}"

    def address(self, name):
        return f"{self.network}.{self.numbers[name]}"

    def device(self, name):
        return f"{PREFIX}v{self.numbers[name]}"

    def add(self, name, *arguments, hidden=None, **environment):
        """Start a machine and its Ray. On that machine the folder `hidden` is empty."""
        self.last += 1
        number = self.numbers[name] = self.last  # never used twice: the kernel removes the devices of a removed namespace with a delay
        if hidden:
            self.hidden.add(name)
        ip("netns", "add", namespace(name))
        ip("link", "add", self.device(name), "type", "veth", "peer", "name", "eth0", "netns", namespace(name))
        ip("link", "set", self.device(name), "master", PREFIX, "up")
        for inside in (
            ["addr", "add", f"{self.address(name)}/24", "dev", "eth0"],
            ["link", "set", "eth0", "up"],
            ["link", "set", "lo", "up"],
        ):
            ip("-n", namespace(name), *inside)
        joins = (
            ["--head", "--port", str(HEAD_PORT), "--dashboard-host", self.address(name), "--dashboard-port", str(DASHBOARD_PORT)]
            if name == "head"
            else ["--address", self.gcs]
        )
        place = self.folder / name
        place.mkdir(exist_ok=True)
        own = ["--temp-dir", f"{self.session}/{number}", "--dashboard-agent-listen-port", str(AGENT_PORT)]
        command = [
            sys.executable,
            "-m",
            "ray.scripts.scripts",
            "start",
            "--node-ip-address",
            self.address(name),
            *joins,
            *own,
            *arguments,
        ]
        hide = f"mount -t tmpfs none {hidden}; " if hidden else ""
        path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
        variables = {"INJERTO_CACHE": str(place / "cache"), "HOME": str(place), "PATH": path} | environment
        subprocess.run(
            [
                "ip",
                "netns",
                "exec",
                namespace(name),
                "unshare",
                "--uts",
                "--mount",
                "sh",
                "-c",
                f'hostname {name}; {hide}exec "$@"',
                "sh",
                *command,
            ],
            env={**os.environ, **self.environment, **variables},
            check=True,
            capture_output=True,
            timeout=START_SECONDS,
            cwd=place,
        )

    def kill(self, name):
        """End a machine without warning, as a loss of power does."""
        ip("link", "set", self.device(name), "down")
        self._remove(name)

    def cut(self, name):
        """Disconnect a machine from the network."""
        ip("link", "set", self.device(name), "down")

    def reconnect(self, name):
        """Connect a machine to the network again."""
        ip("link", "set", self.device(name), "up")

    def processes(self, name):
        """Return the ids of the processes on a machine."""
        return process_ids(namespace(name))

    def close(self):
        """End the machines that this object has started, and remove their network."""
        for name in list(self.numbers):
            self._remove(name)
        ip("link", "del", PREFIX)
        shutil.rmtree(self.session, ignore_errors=True)

    def _remove(self, name):
        kill_all(namespace(name))
        ip("netns", "del", namespace(name))
        del self.numbers[name]
        self.hidden.discard(name)


def namespace(name):
    """Return the name of a machine's network namespace."""
    return f"{PREFIX}-{name}"


def process_ids(space):
    """Return the ids of the processes in a network namespace."""
    return [int(id) for id in subprocess.run(["ip", "netns", "pids", space], capture_output=True, text=True).stdout.split()]


def kill_all(space):
    """Kill every process in a network namespace, and wait until they have ended."""
    while ids := process_ids(space):
        for id in ids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(id, signal.SIGKILL)
        time.sleep(0.1)
