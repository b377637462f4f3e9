"""A dashboard server in a process of its own."""

import os
import signal
import socket
import subprocess
import sys
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass

from dashboard.auth import LOOPBACK
from tests.paths import REPOSITORY
from tests.waiting import wait_until

START_SECONDS = 60


@dataclass(frozen=True)
class Server:
    """A running server: its address, its process, and the lines that it has printed until it answered."""

    address: str
    process: subprocess.Popen
    first_line: str


@contextmanager
def serve_dashboard(url, *options):
    """Start ``injerto dashboard`` for a storage on a free port; the block begins when it answers, and it is interrupted at the end."""
    port = _free_port()
    command = [sys.executable, "-m", "search.cli", "dashboard", "--storage", url, "--port", str(port), *options]
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)
    address = f"http://{LOOPBACK}:{port}"
    try:
        first_line = process.stdout.readline()
        wait_until(lambda: _answers(process, address), START_SECONDS, f"the dashboard at {address}", ignoring=(OSError,))
        yield Server(address, process, first_line)
    finally:
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=20)
    assert "Traceback" not in output


def _free_port():
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return probe.getsockname()[1]


def _answers(process, address):
    assert process.poll() is None, f"the dashboard has ended with exit code {process.returncode}"
    return urllib.request.urlopen(f"{address}/_stcore/health", timeout=2).read() == b"ok"
