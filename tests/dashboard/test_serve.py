"""The server: its port, and the command that starts it."""

import socket

import psutil
import pytest

from dashboard import auth, serve
from tests.dashboard.serving import serve_dashboard
from trainables.errors import ConfigError


def test_a_port_that_cannot_be_used_is_rejected():
    with socket.socket() as other:
        other.bind((auth.LOOPBACK, 0))
        other.listen()
        with pytest.raises(ConfigError, match=r"is in use.*--port"):
            serve.require_free(other.getsockname()[1])
    with pytest.raises(ConfigError, match="from 1 to 65535"):
        serve.require_free(70000)
    with pytest.raises(ConfigError, match=r"cannot be used.*--address"):
        serve.require_free(8501, "203.0.113.1")


def test_the_command_listens_on_loopback_only(played):
    with serve_dashboard(played.url) as server:
        assert server.first_line == f"dashboard: {server.address} (Ctrl-C ends it)\n"
        assert server.address.startswith("http://127.0.0.1:")
        assert {c.laddr.ip for c in psutil.Process(server.process.pid).net_connections("inet") if c.status == "LISTEN"} == {"127.0.0.1"}
