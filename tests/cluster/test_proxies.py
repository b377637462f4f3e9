"""No request to this machine, to the cluster or to a cloud's metadata service passes a proxy."""

import json
import os
import subprocess
import sys
import urllib.request

import pytest
import ray
import requests

from cluster import proxies
from cluster.environment import worker_environment
from cluster.proxies import add_direct_hosts
from tests.cluster.recording_proxy import recording_proxy
from tests.paths import REPOSITORY

PROXY = {"http_proxy": "http://proxy:3128", "https_proxy": "http://proxy:3128"}
DIRECT_URLS = ["http://localhost:1", "http://127.0.0.1:1", "http://127.0.0.2:1", "http://[::1]:1", "http://0.0.0.0:1"] + [
    *("http://169.254.169.254/latest/meta-data", "http://metadata.google.internal/computeMetadata", "http://169.254.170.2/v2/credentials"),
    *("http://head:8265", "https://head", "http://10.1.2.3:6379"),
]
OTHER_URLS = ["https://download.example.org/weights.pt", "http://overhead:80", "http://10.1.2.4:9000", "https://s3.eu-west-1.example.org"]
HOSTS = ("head", "10.1.2.3")


@pytest.fixture
def environment(monkeypatch):
    """This process's environment without any proxy variable; the test's changes are undone."""
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "")
    return monkeypatch


def asks_proxy_urllib(url):
    return not urllib.request.proxy_bypass_environment(urllib.request.Request(url).host)


def asks_proxy_requests(url):
    return bool(requests.utils.select_proxy(url, requests.utils.get_environ_proxies(url)))


@pytest.mark.parametrize("set_by_user", ["", "intern.example.org", "127.0.0.1,intern.example.org"])
@pytest.mark.parametrize("spelling", ["no_proxy", "NO_PROXY"])
@pytest.mark.parametrize("asks_proxy", [asks_proxy_urllib, asks_proxy_requests])
def test_only_direct_hosts_and_the_users_own_are_exempt(asks_proxy, spelling, set_by_user, environment):
    for name, value in (PROXY | {spelling: set_by_user}).items():
        environment.setenv(name, value)
    add_direct_hosts(*HOSTS)
    assert [url for url in DIRECT_URLS if asks_proxy(url)] == []
    assert [url for url in OTHER_URLS if not asks_proxy(url)] == []
    if set_by_user:
        assert not asks_proxy("http://db.intern.example.org")


def test_both_spellings_and_grpc_are_extended_once():
    found = PROXY | {"NO_PROXY": "a.org, b.org", "no_grpc_proxy": "c.org"}
    add_direct_hosts("head", environment=found)
    first = dict(found)
    add_direct_hosts("head", environment=found)
    assert found == first
    assert found["no_proxy"] == found["NO_PROXY"] == ",".join(("a.org", "b.org", *proxies.DIRECT, "head"))
    assert found["no_grpc_proxy"] == ",".join(("c.org", *proxies.DIRECT, "head"))


@pytest.mark.parametrize("spelling", ["no_proxy", "NO_PROXY"])
def test_an_exemption_of_everything_removes_the_proxies(spelling):
    """gRPC does not know ``*``: with the proxies still set it would send the token to one of them."""
    found = PROXY | {"HTTP_PROXY": "http://proxy:3128", "GRPC_PROXY": "http://proxy:3128", spelling: "*"}
    add_direct_hosts("head", environment=found)
    assert found == {spelling: "*"}


def test_without_a_proxy_nothing_is_set(environment):
    found = {"PATH": "/bin"}
    add_direct_hosts("head", environment=found)
    assert found == {"PATH": "/bin"}
    assert "no_proxy" not in worker_environment("head")


def test_workers_keep_the_exemptions_of_their_node(environment):
    """Ray itself expands the node's own variables."""
    from ray._private.utils import update_envs

    for name, value in PROXY.items():
        environment.setenv(name, value)
    sent = {name: value for name, value in worker_environment("head").items() if name.lower() == "no_proxy"}
    assert set(sent) == {"no_proxy", "NO_PROXY"}
    environment.setenv("NO_PROXY", "node.example.org")
    update_envs(sent)
    assert [url for url in ("http://node.example.org", "http://127.0.0.1:1", "http://head:1") if asks_proxy_requests(url)] == []


def test_a_shell_script_loses_its_proxies_where_everything_is_exempt():
    variables = {"PATH": os.environ["PATH"], **PROXY, "NO_PROXY": "*"}
    script = f'eval "$({sys.executable} -P -m cluster.proxies head)"; echo "${{http_proxy-none}} ${{https_proxy-none}} $NO_PROXY"'
    done = subprocess.run(["bash", "-ec", script], capture_output=True, text=True, env=variables)
    assert done.stdout == "none none *\n", done.stderr


@pytest.mark.parametrize("proxy", ["http://proxy:3128", ""])
def test_a_shell_script_gets_the_exemptions(proxy):
    variables = {"PATH": os.environ["PATH"], "http_proxy": proxy, "NO_PROXY": "a.org"}
    script = f'eval "$({sys.executable} -P -m cluster.proxies head n1)"; echo "$no_proxy" "$NO_PROXY"'
    done = subprocess.run(["bash", "-euc", script.replace("$no_proxy", "${no_proxy-}")], capture_output=True, text=True, env=variables)
    expected = ",".join(("a.org", *proxies.DIRECT, "head", "n1"))
    assert done.stdout == (f"{expected} {expected}\n" if proxy else " a.org\n"), done.stderr


def test_the_token_never_reaches_a_proxy(serve):
    """Neither from our own request nor from Ray's client; in a process of its own, because Ray reads the token once in a process."""
    asked = []
    answer = json.dumps({"version": "4", "ray_version": ray.__version__, "ray_commit": "-"})
    addresses = [serve(200, answer, asked=asked, host=host) for host in ("127.0.0.1", "127.0.0.3")]
    code = "import sys; from cluster.jobs import Jobs; print([Jobs(address)._client.get_address() for address in sys.argv[1:]])"
    inherited = {name: value for name, value in os.environ.items() if name.lower() != "no_proxy" and name != "RAY_AUTH_MODE"}
    with recording_proxy() as proxy:
        environment = inherited | proxy.environment() | {"RAY_AUTH_TOKEN": "canary"}
        done = subprocess.run(
            [sys.executable, "-c", code, *addresses], capture_output=True, text=True, timeout=60, env=environment, cwd=REPOSITORY
        )
        assert done.stdout == f"{addresses}\n", done.stderr
        assert proxy.requests == []
    assert len(asked) >= 4, "one request of ours to each address, and those of Ray's client"
    assert {headers["Authorization"] for headers in asked} == {"Bearer canary"}
