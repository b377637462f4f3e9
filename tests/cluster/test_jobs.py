import json
import socket
import threading

import pytest
import ray

from cluster.jobs import Jobs, _translated_errors
from trainables.errors import ResourceError


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
def test_unusable_addresses_are_rejected(address, words):
    with pytest.raises(ResourceError, match=words):
        Jobs(address)


def test_another_ray_version_is_rejected(serve):
    address = serve(200, json.dumps({"ray_version": "2.9.3"}))
    with pytest.raises(ResourceError, match=rf"runs Ray 2\.9\.3, and here is {ray.__version__}; install the same version"):
        Jobs(address)


@pytest.mark.parametrize("name", ["RAY_API_SERVER_ADDRESS", "RAY_ADDRESS"])
def test_the_given_address_wins_over_rays_variables(name, serve, monkeypatch):
    address = serve(200, json.dumps({"version": "4", "ray_version": ray.__version__, "ray_commit": "-"}))
    monkeypatch.setenv(name, serve(404, "not here"))
    assert Jobs(address)._client.get_address() == address


WRONG = [
    *((404, "not here"), (200, "<html>hello</html>"), (200, "{}"), (200, "[]"), (200, "[" * 60_000), (200, " " * 100_000)),
    *((200, json.dumps({"ray_version": version})) for version in ("\x1b[31m2.60", "9" * 1000, 2, None)),
]


@pytest.mark.parametrize(("status", "body"), WRONG)
def test_an_answer_from_something_else_is_rejected(status, body, serve):
    with pytest.raises(ResourceError, match="is no Ray dashboard"):
        Jobs(serve(status, body))


@pytest.mark.parametrize("line", [b"SSH-2.0-OpenSSH\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"])
def test_an_answer_that_is_not_http_is_rejected(line):
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer():
            with listener.accept()[0] as connection:
                connection.recv(4096)
                connection.sendall(line)

        threading.Thread(target=answer, daemon=True).start()
        with pytest.raises(ResourceError, match="is no Ray dashboard"):
            Jobs(f"http://127.0.0.1:{listener.getsockname()[1]}")


def test_the_token_does_not_follow_a_redirection(serve, monkeypatch):
    monkeypatch.setenv("RAY_AUTH_TOKEN", "canary")
    first, second = [], []
    other = serve(200, "{}", asked=second)
    with pytest.raises(ResourceError, match=r"is no Ray dashboard \(HTTP 302\)"):
        Jobs(serve(302, "", headers=[("Location", other)], asked=first))
    assert [headers["Authorization"] for headers in first] == ["Bearer canary"]
    assert second == []


def test_only_an_authentication_error_is_explained_as_a_wrong_token():
    with pytest.raises(ResourceError, match="token"), _translated_errors("http://head:8265"):
        raise ray.exceptions.AuthenticationError("Authentication failed")
    with (
        pytest.raises(ResourceError, match="a request to the cluster at http://head failed: Job injerto-401-search does not exist"),
        _translated_errors("http://head"),
    ):
        raise RuntimeError("Job injerto-401-search does not exist")


@pytest.mark.parametrize(("token", "words"), [("mine", "does not accept the token of this machine"), ("", "this machine has none")])
def test_a_rejected_or_missing_token_is_named(token, words, serve, monkeypatch, tmp_path):
    monkeypatch.setenv("RAY_AUTH_TOKEN", token)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "token"))
    with pytest.raises(ResourceError, match=words):
        Jobs(serve(401, "Unauthorized"))
