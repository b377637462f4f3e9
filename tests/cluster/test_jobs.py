import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import ray

from cluster.code_package import PACKAGES, copy_code, version
from cluster.jobs import Jobs, _explained
from trainables.errors import ResourceError


@pytest.fixture
def speaks():
    """Serve one answer to everything on loopback: `speaks(status, body)` gives the address; `asked` gets what it is asked."""
    servers = []

    def start(status, body, headers=(), asked=None):
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                if asked is not None:
                    asked.append(dict(self.headers))
                self.send_response(status)
                for name, value in headers:
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
        ("http://me:pass@head:8265", "the address of head holds a password"),
        ("http://127.0.0.1:9", "no Ray cluster answers at http://127.0.0.1:9"),
        ("127.0.0.1:9", "no Ray cluster answers at http://127.0.0.1:9"),
        ("http://[::1", "is no address of a Ray dashboard"),
        ("http://[head]:8265", "is no address of a Ray dashboard"),
        ("http://head:door", "is no address of a Ray dashboard"),
        ("http://head:99999", "is no address of a Ray dashboard"),
        ("http://the head:8265", "is no address of a Ray dashboard"),
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


@pytest.mark.parametrize("name", ["RAY_API_SERVER_ADDRESS", "RAY_ADDRESS"])
def test_the_address_that_is_given_is_the_one_that_is_asked(name, speaks, monkeypatch):
    address = speaks(200, json.dumps({"version": "4", "ray_version": ray.__version__, "ray_commit": "-"}))
    monkeypatch.setenv(name, speaks(404, "not here"))
    assert Jobs(address)._client.get_address() == address


WRONG = [
    *((404, "not here"), (200, "<html>hello</html>"), (200, "{}"), (200, "[]"), (200, "[" * 60_000), (200, " " * 100_000)),
    *((200, json.dumps({"ray_version": version})) for version in ("\x1b[31m2.60", "9" * 1000, 2, None)),
]


@pytest.mark.parametrize(("status", "body"), WRONG)
def test_what_is_no_ray_is_named(status, body, speaks):
    with pytest.raises(ResourceError, match="is no Ray dashboard"):
        Jobs(speaks(status, body))


@pytest.mark.parametrize("line", [b"SSH-2.0-OpenSSH\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"])
def test_what_does_not_speak_http_is_named(line):
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer():
            with listener.accept()[0] as connection:
                connection.recv(4096)
                connection.sendall(line)

        threading.Thread(target=answer, daemon=True).start()
        with pytest.raises(ResourceError, match="is no Ray dashboard"):
            Jobs(f"http://127.0.0.1:{listener.getsockname()[1]}")


def test_the_token_goes_to_nobody_whom_an_answer_names(speaks, monkeypatch):
    monkeypatch.setenv("RAY_AUTH_TOKEN", "canary")
    first, second = [], []
    other = speaks(200, "{}", asked=second)
    with pytest.raises(ResourceError, match=r"is no Ray dashboard \(HTTP 302\)"):
        Jobs(speaks(302, "", headers=[("Location", other)], asked=first))
    assert [headers["Authorization"] for headers in first] == ["Bearer canary"]
    assert second == []


def test_a_token_that_is_refused_later_is_told_from_a_name_with_401_in_it():
    with pytest.raises(ResourceError, match="token"), _explained("http://head:8265"):
        raise ray.exceptions.AuthenticationError("Authentication failed")
    with (
        pytest.raises(ResourceError, match="did not do what it was asked: Job injerto-401-search does not exist"),
        _explained("http://head"),
    ):
        raise RuntimeError("Job injerto-401-search does not exist")


@pytest.mark.parametrize(("token", "words"), [("mine", "does not take the token of this machine"), ("", "this machine has none")])
def test_a_token_that_is_not_taken(token, words, speaks, monkeypatch, tmp_path):
    monkeypatch.setenv("RAY_AUTH_TOKEN", token)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "token"))
    with pytest.raises(ResourceError, match=words):
        Jobs(speaks(401, "Unauthorized"))


def test_the_code_that_travels_is_ours_and_small(tmp_path):
    copies = copy_code(tmp_path)
    assert [path.rpartition("/")[2] for path in copies] == [*PACKAGES, f"injerto-{version()}.dist-info"]
    assert not list(tmp_path.rglob("__pycache__"))
    assert sum(file.stat().st_size for file in tmp_path.rglob("*") if file.is_file()) < 4_000_000
