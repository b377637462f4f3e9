import argparse

import pytest
import timm
import torch
from safetensors.torch import save_file

from trainables.errors import WeightsError
from trainables.networks.bodies import build_body
from trainables.networks.state_dicts import read_tensors
from trainables.networks.weights import check_weights, load_weights

NAME = "mobilenet_v3_small"
VIT = "timm:vit_tiny_patch16_224"


@pytest.fixture(scope="module")
def source():
    """The tensors of a whole network of torchvision, with its head."""
    from torchvision import models

    torch.manual_seed(1)
    return models.mobilenet_v3_small(weights=None).state_dict()


@pytest.fixture(scope="module")
def whole():
    """The tensors of a whole ViT of timm, with its head."""
    torch.manual_seed(2)
    return timm.create_model("vit_tiny_patch16_224", num_classes=5).state_dict()


def assert_loaded(path, source, name=NAME):
    body = build_body(name)
    load_weights(body, name, str(path))
    assert all(torch.equal(tensor, source[key]) for key, tensor in body.trunk.state_dict().items() if tensor.is_floating_point())


def prefixed(source, prefix):
    return {prefix + key: tensor for key, tensor in source.items()}


@pytest.mark.parametrize("suffix", [".pt", ".ckpt", ".bin", ".pth", ".pth.tar"])
def test_every_suffix_of_a_pickle_is_read(tmp_path, source, suffix):
    torch.save(source, tmp_path / f"net{suffix}")
    check_weights(NAME, str(tmp_path / f"net{suffix}"))
    assert_loaded(tmp_path / f"net{suffix}", source)


@pytest.mark.parametrize(
    "prefix", ["module.", "model.", "backbone.", "net.", "_orig_mod.", "model._orig_mod.module.", "net.backbone.model."]
)
def test_prefixes_of_wrappers_are_removed(tmp_path, source, prefix):
    save_file(prefixed(source, prefix), tmp_path / "net.safetensors")
    assert_loaded(tmp_path / "net.safetensors", source)


def test_a_checkpoint_of_lightning_with_its_own_head_is_read(tmp_path, source):
    body = {key: tensor for key, tensor in source.items() if not key.startswith("classifier")}
    state = {**prefixed(body, "backbone."), "head.weight": torch.zeros(4, 576), "head.bias": torch.zeros(4)}
    checkpoint = {
        "state_dict": state,
        "epoch": 7,
        "pytorch-lightning_version": "2.5.0",
        "hyper_parameters": {"lr": 1e-3, "backbone": "mobilenet"},
        "optimizer_states": [{"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 1e-3}]}],
    }
    torch.save(checkpoint, tmp_path / "epoch=7.ckpt")
    assert_loaded(tmp_path / "epoch=7.ckpt", source)


@pytest.mark.parametrize("averaged", ["state_dict_ema", "model_ema"])
def test_the_averaged_tensors_of_a_checkpoint_are_preferred(tmp_path, source, averaged):
    """As timm does. timm keeps its arguments beside them; torchvision counts the averages."""
    plain = {key: torch.zeros_like(tensor) for key, tensor in source.items()}
    checkpoint = {
        "state_dict": plain,
        averaged: {**prefixed(source, "module."), "n_averaged": torch.tensor(9)},
        "args": argparse.Namespace(lr=0.1),
        "arch": NAME,
    }
    torch.save(checkpoint, tmp_path / "model_best.pth.tar")
    assert_loaded(tmp_path / "model_best.pth.tar", source)


def test_a_prefix_of_a_few_keys_stays(tmp_path):
    tensors = {"conv1.weight": torch.zeros(1), "conv2.weight": torch.zeros(1), "model.weight": torch.zeros(1)}
    save_file(tensors, tmp_path / "net.safetensors")
    assert read_tensors(tmp_path / "net.safetensors").keys() == tensors.keys()


def test_what_does_not_fit_is_named_without_its_prefix(tmp_path, source):
    tensors = {**source, "extra.weight": torch.zeros(2)}
    del tensors["features.1.block.0.0.weight"]
    torch.save({"state_dict": prefixed(tensors, "model.")}, tmp_path / "net.ckpt")
    with pytest.raises(WeightsError, match=r"1 keys missing, 1 keys unknown \(features\.1\.block\.0\.0\.weight, extra\.weight\)"):
        check_weights(NAME, str(tmp_path / "net.ckpt"))


class TestNetworksOfTimm:
    def test_a_checkpoint_of_timm_is_read_without_its_head(self, tmp_path, whole):
        torch.save({"state_dict": whole, "epoch": 3}, tmp_path / "last.pth.tar")
        check_weights(VIT, str(tmp_path / "last.pth.tar"))
        assert_loaded(tmp_path / "last.pth.tar", whole, VIT)

    def test_position_embeddings_of_another_image_size_are_resized(self, tmp_path, whole):
        torch.manual_seed(3)
        small = timm.create_model("vit_tiny_patch16_224", img_size=96, num_classes=0).state_dict()
        save_file(small, tmp_path / "small.safetensors")
        check_weights(VIT, str(tmp_path / "small.safetensors"))
        body = build_body(VIT)
        load_weights(body, VIT, str(tmp_path / "small.safetensors"))
        assert body.trunk.pos_embed.shape == (1, 197, 192)
        assert torch.equal(body.trunk.pos_embed[:, 0], small["pos_embed"][:, 0])
        assert torch.equal(body.trunk.blocks[0].mlp.fc1.weight, small["blocks.0.mlp.fc1.weight"])

    def test_another_network_is_refused(self, tmp_path, source):
        save_file(source, tmp_path / "net.safetensors")
        with pytest.raises(WeightsError, match=rf"do not fit {VIT}: \d+ keys missing, \d+ keys unknown .*; they fit {NAME}$"):
            check_weights(VIT, str(tmp_path / "net.safetensors"))
