import functools
import hashlib
import http.server
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.paths import REPOSITORY
from trainables.errors import ResourceError, WeightsError
from trainables.networks import downloads
from trainables.networks.backbones import BACKBONES, backbone
from trainables.networks.bodies import build_body
from trainables.networks.weights import backbones_at_hand, check_weights, fetch_weights, load_weights, weights_at_hand
from trainables.storage import atomic_write

SMALL = "mobilenet_v3_small"
CLOSED = "http://127.0.0.1:9"  # the discard port, on which nothing listens


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """The folder of torch.hub's files, which does not exist yet; no server of weights can be reached."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("INJERTO_WEIGHTS_URL", CLOSED)
    return tmp_path / "torch" / "hub" / "checkpoints"


@pytest.fixture
def imagenet(tmp_path, monkeypatch):
    """A file as torchvision publishes it (with the head): name, content, and the tensors of the body. The table names this file."""
    from torchvision import models

    torch.manual_seed(7)
    network, plain = models.mobilenet_v3_small(weights=None), tmp_path / "plain.pth"
    torch.save(network.state_dict(), plain)
    content = plain.read_bytes()
    name = f"{SMALL}-{hashlib.sha256(content).hexdigest()[:8]}.pth"
    monkeypatch.setitem(BACKBONES, SMALL, replace(backbone(SMALL), weights_file=name))
    return name, content, {key: value for key, value in network.state_dict().items() if not key.startswith("classifier")}


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A web server on loopback for one folder; yields the folder and the list of requested paths."""
    folder, requested = tmp_path / "mirror", []
    folder.mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format, *arguments):
            requested.append(self.path)

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=folder)) as running:
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        monkeypatch.setenv("INJERTO_WEIGHTS_URL", f"http://127.0.0.1:{running.server_port}/")
        yield folder, requested
        running.shutdown()
        thread.join()


FETCH = f"""
import dataclasses, sys, torch
from trainables.networks import backbones, weights
backbones.BACKBONES["{SMALL}"] = dataclasses.replace(backbones.backbone("{SMALL}"), weights_file=sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
print(weights.fetch_weights("{SMALL}"))
"""


def test_without_a_network_the_error_names_file_and_folder(hub):
    for act in (lambda: check_weights("resnet18", "imagenet"), lambda: fetch_weights("resnet18")):
        with pytest.raises(WeightsError) as caught:
            act()
        message = str(caught.value)
        assert "resnet18-f37072fd.pth" in message
        assert str(hub) in message
        assert "refused" in message
        assert f"curl -L --create-dirs -o {hub / 'resnet18-f37072fd.pth'} {CLOSED}/resnet18-f37072fd.pth" in message
        assert "\n" not in message
    assert {path.name for path in hub.iterdir()} <= {"resnet18-f37072fd.pth.lock"}


def test_a_file_with_another_hash_is_rejected_and_kept(hub):
    hub.mkdir(parents=True)
    wrong_file = hub / "resnet18-f37072fd.pth"
    wrong_file.write_bytes(b"not the weights")
    for act in (lambda: check_weights("resnet18", "imagenet"), lambda: fetch_weights("resnet18")):
        with pytest.raises(WeightsError, match=r"resnet18-f37072fd\.pth is damaged.*delete that file"):
            act()
    assert wrong_file.read_bytes() == b"not the weights"


def test_weights_are_at_hand_once_their_file_is_there_whatever_the_network_says(hub, imagenet, server):
    name, content, _ = imagenet
    (server[0] / name).write_bytes(content)
    asked = (SMALL, "resnet18")
    assert not weights_at_hand(SMALL, "imagenet")
    assert backbones_at_hand(asked) == ()
    fetch_weights(SMALL)
    before = list(server[1])
    assert weights_at_hand(SMALL, "imagenet")
    assert backbones_at_hand(asked) == (SMALL,)
    assert server[1] == before, "a question about this machine asks no server"


def test_a_file_changed_after_its_check_is_checked_again(hub, imagenet):
    name, content, _ = imagenet
    hub.mkdir(parents=True)
    (hub / name).write_bytes(content)
    assert fetch_weights(SMALL) == hub / name
    (hub / name).write_bytes(content + b"!")
    with pytest.raises(WeightsError, match="damaged"):
        fetch_weights(SMALL)


def test_weights_are_downloaded_checked_and_loaded_without_the_head(hub, imagenet, server):
    name, content, own = imagenet
    (server[0] / name).write_bytes(content)
    check_weights(SMALL, "imagenet")
    assert not hub.exists(), "a check downloads nothing"
    steps, body = [], build_body(SMALL)
    assert load_weights(body, SMALL, "imagenet", on_download=lambda done, total: steps.append((done, total))) == f"imagenet {name[:-4]}"
    assert steps[-1] == (len(content), len(content))
    assert all(torch.equal(value, own[key]) for key, value in body.trunk.state_dict().items())
    assert (hub / name).read_bytes() == content


def test_a_download_with_another_hash_leaves_no_file(hub, imagenet, server):
    name, content, _ = imagenet
    (server[0] / name).write_bytes(content[:-1])
    with pytest.raises(WeightsError, match=f"another SHA-256.*{len(content) - 1:,} bytes"):
        fetch_weights(SMALL)
    assert [path.name for path in hub.iterdir()] in ([], [f"{name}.lock"])


def test_a_file_missing_on_the_server_is_reported(hub, server):
    with pytest.raises(WeightsError, match=r"127\.0\.0\.1 \((File not found|Not Found)\)"):
        check_weights("resnet18", "imagenet")


def test_two_processes_download_once(hub, imagenet, server):
    name, content, _ = imagenet
    folder, requested = server
    (folder / name).write_bytes(content)
    both = [
        subprocess.Popen([sys.executable, "-c", FETCH, name], cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    assert [process.stdout.readline() for process in both] == ["ready\n"] * 2
    for process in both:
        process.stdin.write("go\n")
        process.stdin.flush()
    assert [process.communicate(timeout=60)[0] for process in both] == [f"{hub / name}\n"] * 2
    assert requested == [f"/{name}"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no device that is always full")
def test_a_full_disk_raises_resource_error(hub, imagenet, server, monkeypatch):
    name, content, _ = imagenet
    (server[0] / name).write_bytes(content)
    hub.mkdir(parents=True)
    (hub / "partial").symlink_to("/dev/full")
    monkeypatch.setattr(atomic_write, "temporary_path", lambda path: hub / "partial")
    with pytest.raises(ResourceError, match=r"no space left in .*TORCH_HOME"):
        fetch_weights(SMALL)
    assert {path.name for path in hub.iterdir()} <= {f"{name}.lock"}


def test_the_error_names_a_folder_that_cannot_be_created(tmp_path, monkeypatch, imagenet):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "file"))
    with pytest.raises(WeightsError, match=r"cannot write to .*file/hub/checkpoints.*TORCH_HOME"):
        fetch_weights(SMALL)


def test_the_url_is_torchvisions_or_that_of_the_mirror(monkeypatch):
    monkeypatch.delenv("INJERTO_WEIGHTS_URL", raising=False)
    for name in ("resnet50", "mnasnet0_5"):
        assert downloads._url(backbone(name)).endswith("/" + backbone(name).weights_file)
    monkeypatch.setenv("INJERTO_WEIGHTS_URL", "http://mirror.test/models/")
    assert downloads._url(backbone("resnet50")) == "http://mirror.test/models/resnet50-11ad3fa6.pth"
