import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import ray

from cluster.code import PACKAGES, copy_code, version
from cluster.jobs import Jobs
from trainables.errors import ResourceError


@pytest.fixture
def speaks():
    """Serve one answer to everything on loopback: `speaks(status, body)` gives the address; `heard` gets the tokens."""
    servers = []

    def start(status, body, headers=None, heard=None):
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                if heard is not None:
                    heard.append(self.headers["Authorization"])
                self.send_response(status)
                for name, value in (headers or {}).items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body.encode())

            def log_message(self, *arguments):
                """Keep still."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("http://", "is no address of a Ray dashboard"),
        ("ftp://head:8265", "is no address of a Ray dashboard"),
        ("http://[::1", "is no address of a Ray dashboard"),
        ("http://head:port", "is no address of a Ray dashboard"),
        ("http://he ad:8265", "is no address of a Ray dashboard"),
        ("http://me:pass@head:port", r"'head:port' is no address of a Ray dashboard"),
        ("http://me:pass@head:8265", "the address of head holds a password"),
        ("http://127.0.0.1:9", "no Ray cluster answers at http://127.0.0.1:9"),
        ("127.0.0.1:9", "no Ray cluster answers at http://127.0.0.1:9"),
        ("http://nowhere.invalid:8265", "no Ray cluster answers at http://nowhere.invalid:8265"),
    ],
)
def test_addresses_that_lead_nowhere(address, words):
    with pytest.raises(ResourceError, match=words):
        Jobs(address)


def test_another_ray_is_named(speaks):
    address = speaks(200, json.dumps({"ray_version": "2.9.3"}))
    with pytest.raises(ResourceError, match=rf"runs Ray 2\.9\.3, and here is {ray.__version__}; install the same version"):
        Jobs(address)


@pytest.mark.parametrize(("status", "body"), [(404, "not here"), (200, "<html>hello</html>"), (200, "{}"), (200, "[]")])
def test_what_is_no_ray_is_named(status, body, speaks):
    with pytest.raises(ResourceError, match="is no Ray dashboard"):
        Jobs(speaks(status, body))


@pytest.mark.parametrize(("token", "words"), [("mine", "does not take the token of this machine"), ("", "this machine has none")])
def test_a_token_that_is_not_taken(token, words, speaks, monkeypatch, tmp_path):
    monkeypatch.setenv("RAY_AUTH_TOKEN", token)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "token"))
    with pytest.raises(ResourceError, match=words):
        Jobs(speaks(401, "Unauthorized"))


def test_the_token_follows_nobody_elsewhere(speaks, monkeypatch):
    monkeypatch.setenv("RAY_AUTH_TOKEN", "x" * 64)
    heard = []
    elsewhere = speaks(200, json.dumps({"ray_version": ray.__version__}), heard=heard)
    with pytest.raises(ResourceError, match="is no Ray dashboard"):
        Jobs(speaks(302, "", {"Location": f"{elsewhere}/api/version"}))
    assert heard == []


@pytest.mark.parametrize(("body", "headers"), [("{", {"Content-Length": "1000"}), ("[" * 200_000, {}), ("[1]", {}), ("null", {})])
def test_garbage_from_a_server_is_named(body, headers, speaks):
    with pytest.raises(ResourceError, match="is no Ray dashboard"):
        Jobs(speaks(200, body, headers))


def test_the_code_that_travels_is_ours_and_small(tmp_path):
    copies = copy_code(tmp_path)
    assert [path.rpartition("/")[2] for path in copies] == [*PACKAGES, f"injerto-{version()}.dist-info"]
    assert not list(tmp_path.rglob("__pycache__"))
    assert sum(file.stat().st_size for file in tmp_path.rglob("*") if file.is_file()) < 4_000_000
