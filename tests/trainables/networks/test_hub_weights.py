import hashlib
import http.server
import json
import os
import subprocess
import sys
import threading

import pytest
import timm
import torch
from huggingface_hub import constants
from safetensors.torch import save_file

from tests.paths import REPOSITORY
from trainables.errors import WeightsError
from trainables.networks.backbones import backbone
from trainables.networks.bodies import build_body
from trainables.networks.weights import backbones_at_hand, check_weights, fetch_weights, load_weights, weights_at_hand

VIT = "timm:vit_tiny_patch16_224.augreg_in21k_ft_in1k"
CNN = "timm:mobilenetv3_small_050.lamb_in1k"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """The hub's cache, which is empty; the hub cannot be reached."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


def publish(folder, name):
    """Write a whole network of timm into a cache, as the hub's client does; return its tensors and the path of the content."""
    torch.manual_seed(5)
    network = timm.create_model(name.removeprefix("timm:"))
    repository = folder / f"models--{backbone(name).location.replace('/', '--')}"
    snapshot, blobs, refs = repository / "snapshots" / COMMIT, repository / "blobs", repository / "refs"
    for part in (snapshot, blobs, refs):
        part.mkdir(parents=True)
    (refs / "main").write_text(COMMIT)
    save_file(network.state_dict(), blobs / "new")
    content = (blobs / "new").rename(blobs / hashlib.sha256((blobs / "new").read_bytes()).hexdigest())
    (snapshot / "model.safetensors").symlink_to(content)
    return network.state_dict(), content


def test_cached_weights_are_at_hand_and_loaded_offline(cache):
    assert not weights_at_hand(CNN, "imagenet")
    state, _ = publish(cache, CNN)
    assert weights_at_hand(CNN, "imagenet")
    assert backbones_at_hand([CNN, VIT]) == (CNN,)
    check_weights(CNN, "imagenet")
    body = build_body(CNN)
    assert load_weights(body, CNN, "imagenet") == "imagenet timm/mobilenetv3_small_050.lamb_in1k@01234567"
    own = body.trunk.state_dict()
    assert all(torch.equal(tensor, state[key]) for key, tensor in own.items())
    assert state.keys() - own.keys() == {"classifier.weight", "classifier.bias"}


def test_position_embeddings_are_resized_to_the_image_size(cache):
    state, _ = publish(cache, VIT)
    body = build_body(VIT, 96)
    load_weights(body, VIT, "imagenet")
    assert state["pos_embed"].shape == (1, 1 + 14 * 14, 192)
    assert body.trunk.pos_embed.shape == (1, 1 + 6 * 6, 192)
    assert torch.equal(body.trunk.blocks[3].attn.qkv.weight, state["blocks.3.attn.qkv.weight"])
    assert torch.equal(body.trunk.pos_embed[:, 0], state["pos_embed"][:, 0]), "the embedding of the class token stays"
    whole = timm.create_model("vit_tiny_patch16_224", img_size=96, num_classes=0)
    fresh = timm.models.vision_transformer.checkpoint_filter_fn(dict(state), whole)
    torch.testing.assert_close(body.trunk.pos_embed, fresh["pos_embed"])


@pytest.mark.parametrize("name", [CNN, VIT])
def test_without_network_one_message_names_repository_cache_and_command(cache, name):
    repository = backbone(name).location
    for act in (
        lambda: check_weights(name, "imagenet"),
        lambda: fetch_weights(name),
        lambda: load_weights(build_body(name), name, "imagenet"),
    ):
        with pytest.raises(WeightsError) as caught:
            act()
        message = str(caught.value)
        assert f"the file model.safetensors of the repository {repository} into the cache {cache}" in message
        assert f"`hf download {repository} model.safetensors`" in message
        assert "\n" not in message
    assert not cache.exists()


def test_a_cached_file_with_another_hash_is_refused_and_named(cache):
    _, content = publish(cache, CNN)
    content.write_bytes(content.read_bytes()[:-1] + b"!")
    for act in (lambda: check_weights(CNN, "imagenet"), lambda: load_weights(build_body(CNN), CNN, "imagenet")):
        with pytest.raises(WeightsError, match=rf"is damaged.*delete the file {content} and start again"):
            act()


def test_a_network_without_published_weights_can_only_start_from_none(cache):
    name = "timm:efficientnet_lite1"
    assert not weights_at_hand(name, "imagenet")
    assert weights_at_hand(name, "none")
    for act in (lambda: check_weights(name, "imagenet"), lambda: fetch_weights(name)):
        with pytest.raises(WeightsError, match=r"no weights for timm:efficientnet_lite1.*choose another tag, or weights none"):
            act()


FETCH = f"""
import json
from trainables.networks.weights import check_weights, fetch_weights, weights_at_hand
steps = []
check_weights("{CNN}", "imagenet")
before = weights_at_hand("{CNN}", "imagenet")
path = fetch_weights("{CNN}", lambda done, total: steps.append((done, total)))
print(json.dumps([before, str(path), steps[-1]]))
"""


def test_a_download_goes_to_hf_home_and_reports_its_progress(tmp_path):
    """The server answers as the hub does: the commit and the hash of a file are in the headers of its address."""
    content = os.urandom(300_000)
    digest = hashlib.sha256(content).hexdigest()

    class Hub(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self):
            found = self.path == f"/{backbone(CNN).location}/resolve/main/model.safetensors" or COMMIT in self.path
            self.send_response(200 if found else 404)
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("ETag", f'"{digest}"')
            self.send_header("Content-Length", str(len(content) if found else 0))
            self.end_headers()
            return found

        def do_GET(self):
            if self.do_HEAD():
                self.wfile.write(content)

        def log_message(self, *arguments):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        variables = {"HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}", "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "0"}
        done = subprocess.run(
            [sys.executable, "-c", FETCH], cwd=REPOSITORY, env={**os.environ, **variables}, capture_output=True, text=True, timeout=120
        )
        server.shutdown()
        thread.join()
    assert done.returncode == 0, done.stderr
    before, path, last = json.loads(done.stdout)
    assert not before
    assert path.startswith(str(tmp_path / "hub"))
    assert last == [len(content), len(content)]
    assert "%" not in done.stderr, "no second progress bar"
