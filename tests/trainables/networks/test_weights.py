import hashlib
import pickle

import pytest
import torch
from safetensors.torch import load_file, save_file

from trainables.errors import ConfigError, WeightsError
from trainables.networks.bodies import build_body, build_empty_body
from trainables.networks.state_dicts import HEAD_KEYS, read_tensors
from trainables.networks.weights import check_weights, load_weights, weights_at_hand

SMALL = "mobilenet_v3_small"


def new_body(name=SMALL, seed=0):
    torch.manual_seed(seed)
    return build_body(name)


def tensors_of(body, dtype=torch.float32):
    return {key: value.to(dtype).clone() for key, value in body.trunk.state_dict().items() if not key.endswith("num_batches_tracked")}


def assert_equal(body, tensors):
    own = tensors_of(body)
    assert own.keys() == tensors.keys()
    assert all(torch.equal(own[key], tensors[key]) for key in own)


class TestKinds:
    def test_none_leaves_the_body_unchanged(self):
        body = new_body()
        before = tensors_of(body)
        assert load_weights(body, SMALL, "none") == "none"
        assert_equal(body, before)

    def test_an_unknown_kind_is_rejected_with_the_known_ones(self):
        with pytest.raises(ConfigError, match=r"unknown weights 'imagnet'; write imagenet or none, or name a \.safetensors"):
            check_weights(SMALL, "imagnet")
        with pytest.raises(ConfigError, match="unknown weights 'builtin'; write imagenet or none, or name a"):
            load_weights(build_empty_body(SMALL), SMALL, "builtin")

    def test_an_unknown_backbone_is_rejected(self):
        for act in (check_weights, weights_at_hand):
            with pytest.raises(ConfigError, match="unknown backbone"):
                act("resnet19", "none")

    def test_no_weights_are_always_at_hand_and_a_file_where_it_exists(self, tmp_path):
        path = tmp_path / "net.pth"
        assert weights_at_hand(SMALL, "none")
        assert not weights_at_hand(SMALL, str(path))
        path.write_bytes(b"")
        assert weights_at_hand(SMALL, str(path))
        with pytest.raises(ConfigError, match="write imagenet or none"):
            weights_at_hand(SMALL, "imagnet")

    def test_half_precision_weights_are_loaded_as_float32(self, tmp_path):
        half, path = tensors_of(new_body(seed=1), torch.float16), tmp_path / "half.safetensors"
        save_file(half, path)
        check_weights(SMALL, str(path))
        body = new_body()
        load_weights(body, SMALL, str(path))
        assert_equal(body, {key: value.float() for key, value in half.items()})
        assert {parameter.dtype for parameter in body.parameters()} == {torch.float32}


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
        assert "name the network that they belong to, such as backbones: [timm:NAME]" in str(caught.value)

    @pytest.mark.parametrize("value", [float("nan"), float("inf")])
    def test_values_that_are_not_finite_are_rejected(self, tmp_path, value):
        tensors, path, body = tensors_of(new_body(seed=1)), tmp_path / "bad.safetensors", new_body()
        tensors["features.3.block.0.0.weight"].view(-1)[5] = value
        save_file(tensors, path)
        before = tensors_of(body)
        with pytest.raises(WeightsError, match=r"not finite, in 1 tensors \(features\.3\.block\.0\.0\.weight\)"):
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
