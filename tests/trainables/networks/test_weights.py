import functools
import hashlib
import http.server
import pickle
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.paths import REPOSITORY
from trainables.errors import ConfigError, ResourceError, WeightsError
from trainables.networks import weights as weights_module
from trainables.networks.backbones import BACKBONES, backbone
from trainables.networks.bodies import build_body, build_empty_body
from trainables.networks.state_dicts import HEAD_KEYS, read_tensors
from trainables.networks.weights import builtin_backbones, check_weights, fetch_weights, load_weights
from trainables.storage import atomic_write

SMALL = "mobilenet_v3_small"
CLOSED = "http://127.0.0.1:9"  # the discard port, on which nothing listens


def new_body(name=SMALL, seed=0):
    torch.manual_seed(seed)
    return build_body(name)


def tensors_of(body, dtype=torch.float32):
    return {key: value.to(dtype).clone() for key, value in body.trunk.state_dict().items() if not key.endswith("num_batches_tracked")}


def assert_equal(body, tensors):
    own = tensors_of(body)
    assert own.keys() == tensors.keys()
    assert all(torch.equal(own[key], tensors[key]) for key in own)


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


class TestImagenet:
    def test_without_a_network_the_error_names_file_and_folder(self, hub):
        for act in (lambda: check_weights("resnet18", "imagenet"), lambda: fetch_weights("resnet18")):
            with pytest.raises(WeightsError) as caught:
                act()
            message = str(caught.value)
            assert "resnet18-f37072fd.pth" in message
            assert str(hub) in message
            assert "refused" in message
            assert "\n" not in message
        assert {path.name for path in hub.iterdir()} <= {"resnet18-f37072fd.pth.lock"}

    def test_a_file_with_another_hash_is_rejected_and_kept(self, hub):
        hub.mkdir(parents=True)
        wrong_file = hub / "resnet18-f37072fd.pth"
        wrong_file.write_bytes(b"not the weights")
        for act in (lambda: check_weights("resnet18", "imagenet"), lambda: fetch_weights("resnet18")):
            with pytest.raises(WeightsError, match=r"resnet18-f37072fd\.pth is damaged.*delete that file"):
                act()
        assert wrong_file.read_bytes() == b"not the weights"

    def test_a_file_changed_after_its_check_is_checked_again(self, hub, imagenet):
        name, content, _ = imagenet
        hub.mkdir(parents=True)
        (hub / name).write_bytes(content)
        assert fetch_weights(SMALL) == hub / name
        (hub / name).write_bytes(content + b"!")
        with pytest.raises(WeightsError, match="damaged"):
            fetch_weights(SMALL)

    def test_weights_are_downloaded_checked_and_loaded_without_the_head(self, hub, imagenet, server):
        name, content, own = imagenet
        (server[0] / name).write_bytes(content)
        check_weights(SMALL, "imagenet")
        assert not hub.exists(), "a check downloads nothing"
        steps, body = [], new_body()
        assert load_weights(body, SMALL, "imagenet", on_download=lambda done, total: steps.append((done, total))) == f"imagenet {name[:-4]}"
        assert steps[-1] == (len(content), len(content))
        assert all(torch.equal(value, own[key]) for key, value in tensors_of(body).items())
        assert (hub / name).read_bytes() == content

    def test_a_download_with_another_hash_leaves_no_file(self, hub, imagenet, server):
        name, content, _ = imagenet
        (server[0] / name).write_bytes(content[:-1])
        with pytest.raises(WeightsError, match=f"another SHA-256.*{len(content) - 1:,} bytes"):
            fetch_weights(SMALL)
        assert [path.name for path in hub.iterdir()] in ([], [f"{name}.lock"])

    def test_a_file_missing_on_the_server_is_reported(self, hub, server):
        with pytest.raises(WeightsError, match=r"127\.0\.0\.1 \((File not found|Not Found)\)"):
            check_weights("resnet18", "imagenet")

    def test_two_processes_download_once(self, hub, imagenet, server):
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
    def test_a_full_disk_raises_resource_error(self, hub, imagenet, server, monkeypatch):
        name, content, _ = imagenet
        (server[0] / name).write_bytes(content)
        hub.mkdir(parents=True)
        (hub / "partial").symlink_to("/dev/full")
        monkeypatch.setattr(atomic_write, "temporary_path", lambda path: hub / "partial")
        with pytest.raises(ResourceError, match=r"no space left in .*TORCH_HOME"):
            fetch_weights(SMALL)
        assert {path.name for path in hub.iterdir()} <= {f"{name}.lock"}

    def test_the_error_names_a_folder_that_cannot_be_created(self, tmp_path, monkeypatch, imagenet):
        (tmp_path / "file").write_text("")
        monkeypatch.setenv("TORCH_HOME", str(tmp_path / "file"))
        with pytest.raises(WeightsError, match=r"cannot write to .*file/hub/checkpoints.*TORCH_HOME"):
            fetch_weights(SMALL)

    def test_the_url_is_torchvisions_or_that_of_the_mirror(self, monkeypatch):
        monkeypatch.delenv("INJERTO_WEIGHTS_URL", raising=False)
        for name in ("resnet50", "mnasnet0_5"):
            assert weights_module._url(name).endswith("/" + backbone(name).weights_file)
        monkeypatch.setenv("INJERTO_WEIGHTS_URL", "http://mirror.test/models/")
        assert weights_module._url("resnet50") == "http://mirror.test/models/resnet50-11ad3fa6.pth"


class TestKinds:
    def test_none_leaves_the_body_unchanged(self):
        body = new_body()
        before = tensors_of(body)
        assert load_weights(body, SMALL, "none") == "none"
        assert_equal(body, before)

    def test_an_unknown_kind_is_rejected_with_the_nearest_name(self):
        with pytest.raises(ConfigError, match=r"unknown weights 'imagnet'; did you mean 'imagenet'\?; or name a \.safetensors"):
            check_weights(SMALL, "imagnet")

    def test_an_unknown_backbone_is_rejected(self):
        with pytest.raises(ConfigError, match="unknown backbone"):
            check_weights("resnet19", "none")

    def test_builtin_weights_of_another_backbone_are_rejected_with_those_that_exist(self):
        for act in (
            lambda: check_weights("resnet18", "builtin"),
            lambda: load_weights(build_empty_body("resnet18"), "resnet18", "builtin"),
        ):
            with pytest.raises(ConfigError, match="resnet18 has no built-in weights; those that do: mobilenet_v3_small"):
                act()

    def test_builtin_half_precision_weights_are_loaded_as_float32(self, tmp_path, monkeypatch):
        half = tensors_of(new_body(seed=1), torch.float16)
        save_file(half, tmp_path / f"{SMALL}.safetensors")
        monkeypatch.setattr(weights_module, "BUILTIN_FOLDER", tmp_path)
        check_weights(SMALL, "builtin")
        body = new_body()
        provenance = load_weights(body, SMALL, "builtin")
        assert provenance == f"builtin {hashlib.sha256((tmp_path / f'{SMALL}.safetensors').read_bytes()).hexdigest()[:8]}"
        assert_equal(body, {key: value.float() for key, value in half.items()})
        assert {parameter.dtype for parameter in body.parameters()} == {torch.float32}

    @pytest.mark.parametrize("name", builtin_backbones())
    def test_builtin_weights_are_shipped_and_fit(self, name):
        body = new_body(name)
        before = tensors_of(body)
        assert load_weights(body, name, "builtin").startswith("builtin ")
        assert all(not torch.equal(value, before[key]) for key, value in tensors_of(body).items() if value.ndim == 4)


class TestFile:
    def test_an_exported_file_with_its_head_round_trips(self, tmp_path):
        source, path = new_body(seed=1), tmp_path / "best.safetensors"
        save_file({**tensors_of(source), "head.weight": torch.zeros(3, 576), "head.bias": torch.zeros(3)}, path)
        check_weights(SMALL, str(path))
        body = new_body()
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        assert load_weights(body, SMALL, str(path)) == f"file best.safetensors {digest[:8]}"
        assert_equal(body, tensors_of(source))

    @pytest.mark.parametrize(
        "wrap", [lambda s: s, lambda s: {"state_dict": s, "epoch": 3}, lambda s: {"model": s}], ids=["bare", "state", "model"]
    )
    @pytest.mark.parametrize("prefix", ["", "module."])
    def test_wrapped_and_prefixed_pth_files_are_read(self, tmp_path, wrap, prefix):
        source, path = new_body(seed=1), tmp_path / "theirs.pth"
        torch.save(wrap({prefix + key: value for key, value in source.trunk.state_dict().items()}), path)
        body = new_body()
        load_weights(body, SMALL, str(path))
        assert_equal(body, tensors_of(source))

    def test_old_names_of_densenet_are_read(self, tmp_path):
        source, path = new_body("densenet121", seed=1), tmp_path / "old.pth"
        renamed = tensors_of(source)
        for kind in ("norm", "conv"):
            for number in "12":
                renamed = {
                    key.replace(f"{kind}{number}", f"{kind}.{number}") if "denselayer" in key else key: value
                    for key, value in renamed.items()
                }
        assert "features.denseblock1.denselayer1.norm.1.weight" in renamed
        torch.save({**renamed, "classifier.weight": torch.zeros(2, 1024)}, path)
        body = new_body("densenet121")
        load_weights(body, "densenet121", str(path))
        assert_equal(body, tensors_of(source))

    def test_the_norm_in_convnexts_classifier_belongs_to_the_body(self, tmp_path):
        names = build_empty_body("convnext_tiny").trunk.state_dict()
        assert "classifier.0.weight" in names
        path = tmp_path / "cut.safetensors"
        save_file({key: torch.zeros(value.shape) for key, value in names.items() if not key.startswith("classifier.0")}, path)
        with pytest.raises(WeightsError, match=r"2 keys missing \(classifier\.0\.weight, classifier\.0\.bias\)"):
            check_weights("convnext_tiny", str(path))

    def test_a_pickle_with_code_is_rejected_and_not_run(self, tmp_path):
        path, trace = tmp_path / "evil.pth", tmp_path / "ran"
        for save in (torch.save, lambda value, to: to.write_bytes(pickle.dumps(value, protocol=2))):
            save({"features.0.0.weight": Evil(str(trace))}, path)
            for act in (lambda: check_weights(SMALL, str(path)), lambda: load_weights(new_body(), SMALL, str(path))):
                with pytest.raises(WeightsError, match="could run code"):
                    act()
        assert not trace.exists()

    @pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
    @pytest.mark.parametrize("content", [b"", b"hello", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 4\n"])
    def test_damaged_files_are_rejected(self, tmp_path, suffix, content):
        path = tmp_path / f"damaged{suffix}"
        path.write_bytes(content)
        with pytest.raises(WeightsError, match="damaged"):
            check_weights(SMALL, str(path))

    @pytest.mark.parametrize("content", [[1, 2], {"state_dict": {}}, {"epoch": 3}, torch.zeros(2)], ids=str)
    def test_files_without_named_tensors_are_rejected(self, tmp_path, content):
        torch.save(content, tmp_path / "odd.pth")
        with pytest.raises(WeightsError, match="holds no tensors by name"):
            check_weights(SMALL, str(tmp_path / "odd.pth"))

    def test_a_dictionary_that_contains_itself_is_rejected(self, tmp_path):
        endless = {}
        endless["model"] = endless["state_dict"] = endless
        torch.save(endless, tmp_path / "endless.pth")
        with pytest.raises(WeightsError, match="holds no tensors"):
            read_tensors(tmp_path / "endless.pth")

    def test_a_missing_file_is_rejected(self, tmp_path):
        with pytest.raises(WeightsError, match="no weights file"):
            check_weights(SMALL, str(tmp_path / "none.safetensors"))
        (tmp_path / "folder.pth").mkdir()
        with pytest.raises(WeightsError, match="no weights file"):
            check_weights(SMALL, str(tmp_path / "folder.pth"))

    @pytest.mark.parametrize("saved", ["resnet34", "shufflenet_v2_x0_5"])
    def test_the_error_names_the_backbone_that_fits(self, tmp_path, saved):
        path = tmp_path / "other.safetensors"
        save_file({**tensors_of(new_body(saved)), "fc.weight": torch.zeros(2, 2)}, path)
        name, body = "resnet18", new_body("resnet18")
        before = tensors_of(body)
        with pytest.raises(WeightsError, match=rf"do not fit resnet18: .*\d+ keys unknown .*; they fit {saved}$"):
            load_weights(body, name, str(path))
        assert_equal(body, before)

    def test_the_error_counts_missing_reshaped_and_unknown_keys(self, tmp_path):
        tensors, path = tensors_of(new_body()), tmp_path / "bad.safetensors"
        del tensors["features.0.0.weight"]
        tensors["features.12.0.weight"] = torch.zeros(1)
        tensors["features.0.1.bias"] = torch.zeros(16, dtype=torch.int64)
        tensors["surprise"] = torch.zeros(1)
        save_file(tensors, path)
        with pytest.raises(WeightsError) as caught:
            check_weights(SMALL, str(path))
        assert "1 keys missing, 2 keys of another shape, 1 keys unknown (features.0.0.weight, " in str(caught.value)
        assert "they fit no backbone of the table" in str(caught.value)

    @pytest.mark.parametrize("value", [float("nan"), float("inf")])
    def test_values_that_are_not_finite_are_rejected(self, tmp_path, value):
        tensors, path, body = tensors_of(new_body(seed=1)), tmp_path / "bad.safetensors", new_body()
        tensors["features.3.block.0.0.weight"].view(-1)[5] = value
        save_file(tensors, path)
        before = tensors_of(body)
        with pytest.raises(WeightsError, match=r"not finite in 1 keys \(features\.3\.block\.0\.0\.weight\)"):
            load_weights(body, SMALL, str(path))
        assert_equal(body, before)

    def test_the_memory_layout_of_the_body_is_kept(self, tmp_path):
        path = tmp_path / "plain.safetensors"
        source = new_body(seed=1)
        save_file(tensors_of(source), path)
        body = new_body().to(memory_format=torch.channels_last)
        load_weights(body, SMALL, str(path))
        assert body.trunk.features[0][0].weight.is_contiguous(memory_format=torch.channels_last)
        assert torch.equal(body.trunk.features[0][0].weight, load_file(path)["features.0.0.weight"])


@pytest.mark.parametrize("name", ["googlenet", "inception_v3", "vgg11", "densenet121", "convnext_tiny", "mobilenet_v3_large"])
def test_the_head_keys_cover_torchvisions_own_heads(name):
    """Every key of a whole torchvision network belongs to the body or to a head."""
    from torchvision import models

    options = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    with torch.device("meta"):
        keys = models.get_model(name, weights=None, **options).state_dict().keys()
    assert all(key.startswith(HEAD_KEYS) for key in keys - build_empty_body(name).trunk.state_dict().keys())


class Evil:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")
