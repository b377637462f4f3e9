"""Machines of the tests' own on this one: each a network namespace with an address, a host name and a cache, joined by a bridge.

What they say to each other crosses a network that can be cut. It takes root and iproute2; `missing` says where that is not to be had.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

BRIDGE = "injerto0"
NETWORK = "10.213.7"
OUTSIDE = f"{NETWORK}.1"
"""This machine's own address on the bridge: where the tests submit from, and where their database and bucket are."""
HEAD_PORT, DASHBOARD_PORT, AGENT_PORT = 6379, 8265, 52365
START_SECONDS = 90


def missing():
    """Why there can be no machines here."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if any(shutil.which(program) is None for program in ("ip", "unshare")):
        return "no iproute2 on this machine: apt-get install iproute2"
    probe = subprocess.run(["ip", "netns", "add", "injerto-probe"], capture_output=True, text=True)
    subprocess.run(["ip", "netns", "del", "injerto-probe"], capture_output=True)
    return f"no network namespaces here: {probe.stderr.strip()}" if probe.returncode else None


def ip(*arguments):
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


class Machines:
    """A Ray cluster of separate machines: `head`, then as many as `add` is asked for."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder, self.environment = folder, environment
        self.numbers: dict[str, int] = {}
        self.session = tempfile.mkdtemp(prefix="ray-", dir="/tmp")  # of sockets, whose paths must be short
        self._clear()
        ip("link", "add", BRIDGE, "type", "bridge")
        ip("addr", "add", f"{OUTSIDE}/24", "dev", BRIDGE)
        ip("link", "set", BRIDGE, "up")

    @property
    def dashboard(self):
        return f"http://{self.address('head')}:{DASHBOARD_PORT}"

    @property
    def gcs(self):
        return f"{self.address('head')}:{HEAD_PORT}"

    def address(self, name):
        return f"{NETWORK}.{self.numbers[name]}"

    def add(self, name, *arguments, hidden=None, **environment):
        """Start a machine and its Ray; on it the folder `hidden` is empty."""
        number = self.numbers[name] = max(self.numbers.values(), default=10) + 1
        ip("netns", "add", space(name))
        subprocess.run(["ip", "link", "del", f"v{number}"], capture_output=True)  # a namespace's end takes its links with it, but later
        ip("link", "add", f"v{number}", "type", "veth", "peer", "name", "eth0", "netns", space(name))
        ip("link", "set", f"v{number}", "master", BRIDGE, "up")
        for inside in (
            ["addr", "add", f"{self.address(name)}/24", "dev", "eth0"],
            ["link", "set", "eth0", "up"],
            ["link", "set", "lo", "up"],
        ):
            ip("-n", space(name), *inside)
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
                space(name),
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
        """Take a machine away as a loss of power does."""
        ip("link", "set", f"v{self.numbers[name]}", "down")
        kill_all(space(name))

    def cut(self, name):
        """Take a machine's network away."""
        ip("link", "set", f"v{self.numbers[name]}", "down")

    def mend(self, name):
        """Give a machine's network back."""
        ip("link", "set", f"v{self.numbers[name]}", "up")

    def close(self):
        self._clear()
        shutil.rmtree(self.session, ignore_errors=True)

    def _clear(self):
        """Remove what these machines, or those of a run that was cut short, have left."""
        spaces = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout.split()
        for name in spaces:
            if name.startswith(space("")):
                kill_all(name)
                ip("netns", "del", name)
        subprocess.run(["ip", "link", "del", BRIDGE], capture_output=True)


def space(name):
    """The name of a machine's network namespace."""
    return f"injerto-{name}"


def kill_all(name):
    """End every process in a namespace, and wait until they are gone."""
    while pids := subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True).stdout.split():
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        time.sleep(0.1)
