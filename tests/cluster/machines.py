"""Machines of the tests' own on this one: each a network namespace with an address, a host name and a cache, joined by a bridge.

What they say to each other crosses a network that can be cut. It takes root and iproute2; `missing` says where that is not to be had.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
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
        ip("netns", "add", name)
        ip("link", "add", f"v{number}", "type", "veth", "peer", "name", "eth0", "netns", name)
        ip("link", "set", f"v{number}", "master", BRIDGE, "up")
        for inside in (
            ["addr", "add", f"{self.address(name)}/24", "dev", "eth0"],
            ["link", "set", "eth0", "up"],
            ["link", "set", "lo", "up"],
        ):
            ip("-n", name, *inside)
        joins = (
            ["--head", "--port", str(HEAD_PORT), "--dashboard-host", self.address(name), "--dashboard-port", str(DASHBOARD_PORT)]
            if name == "head"
            else ["--address", self.gcs]
        )
        place = self.folder / name
        place.mkdir(exist_ok=True)
        if name == "head":
            joins += ["--temp-dir", str(place)]
        ports = ["--dashboard-agent-listen-port", str(AGENT_PORT)]
        command = [
            sys.executable,
            "-m",
            "ray.scripts.scripts",
            "start",
            "--node-ip-address",
            self.address(name),
            *joins,
            *ports,
            *arguments,
        ]
        hide = f"mount -t tmpfs none {hidden}; " if hidden else ""
        path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
        own = {"INJERTO_CACHE": str(place / "cache"), "HOME": str(place), "PATH": path} | environment
        subprocess.run(
            ["ip", "netns", "exec", name, "unshare", "--uts", "--mount", "sh", "-c", f'hostname {name}; {hide}exec "$@"', "sh", *command],
            env={**os.environ, **self.environment, **own},
            check=True,
            capture_output=True,
            timeout=START_SECONDS,
            cwd=place,
        )

    def pids(self, name):
        found = subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True)
        return [int(pid) for pid in found.stdout.split()]

    def kill(self, name):
        """Take a machine away as a loss of power does."""
        ip("link", "set", f"v{self.numbers[name]}", "down")
        for pid in self.pids(name):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def cut(self, name):
        """Take a machine's network away."""
        ip("link", "set", f"v{self.numbers[name]}", "down")

    def mend(self, name):
        """Give a machine's network back."""
        ip("link", "set", f"v{self.numbers[name]}", "up")

    def close(self):
        for name in self.numbers:
            for pid in self.pids(name):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        time.sleep(0.5)
        self._clear()

    def _clear(self):
        """Remove what these machines, or those of a run that was cut short, have left."""
        known = subprocess.run(["ip", "link", "show", "master", BRIDGE], capture_output=True, text=True).stdout
        for line in known.splitlines():
            if ": v" in line:
                subprocess.run(["ip", "link", "del", line.split(": ")[1].split("@")[0]], capture_output=True)
        for name in self.numbers:
            subprocess.run(["ip", "netns", "del", name], capture_output=True)
        subprocess.run(["ip", "link", "del", BRIDGE], capture_output=True)
