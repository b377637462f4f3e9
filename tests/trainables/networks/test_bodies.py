import math
import re

import pytest
import timm
import torch
from torch import nn
from torchvision import models

from trainables.errors import ConfigError
from trainables.networks.backbones import BACKBONES, backbone
from trainables.networks.bodies import POOLINGS, build_body, build_empty_body

SMALL_MEMBERS = {
    "alexnet": 64,
    "convnext_tiny": 32,
    "densenet121": 32,
    "efficientnet_b0": 32,
    "efficientnet_lite0": 32,
    "googlenet": 32,
    "inception_v3": 75,
    "mnasnet0_5": 32,
    "mobilenet_v2": 32,
    "mobilenet_v3_small": 32,
    "regnet_x_400mf": 32,
    "resnet18": 32,
    "shufflenet_v2_x0_5": 32,
    "squeezenet1_1": 32,
    "vgg11_bn": 32,
}
HEAD_STARTS = {"alexnet": "avgpool", "vgg": "avgpool", "squeezenet": "classifier"}
WITH_TRANSFORM = ("googlenet", "inception")


def features_of_library(row, state, images):
    """Return the pooled features of the whole network, as its library computes them."""
    return features_of_timm(row, state, images) if row.timm_name else features_of_torchvision(row, state, images)


def features_of_timm(row, state, images):
    network = timm.create_model(row.timm_name, num_classes=0).eval()
    network.load_state_dict(state)
    return network(images)


def features_of_torchvision(row, state, images):
    """Return the pooled input of torchvision's own last linear layer (or of the first module that the body leaves out)."""
    options = {"init_weights": False, "transform_input": False, "aux_logits": False} if row.family in WITH_TRANSFORM else {}
    network = models.get_model(row.name, weights=None, **options).eval()
    assert not network.load_state_dict(state, strict=False).unexpected_keys
    head = network.get_submodule(HEAD_STARTS[row.family]) if row.family in HEAD_STARTS else network.fc if hasattr(network, "fc") else None
    if head is None:
        linears = [module for module in network.classifier.modules() if isinstance(module, nn.Linear)]
        head = linears[0]
    caught = []
    head.register_forward_pre_hook(lambda module, inputs: caught.append(inputs[0]))
    network(images)
    return caught[0].mean((2, 3)) if caught[0].ndim == 4 else caught[0]


def vary(network):
    """Change every batch norm from its initial identity, so that the test notices a missing layer."""
    generator = torch.Generator().manual_seed(1)
    for module in network.modules():
        for name in ("weight", "running_var"):
            if isinstance(module, nn.BatchNorm2d):
                getattr(module, name).data.uniform_(0.5, 1.5, generator=generator)
        if isinstance(module, nn.BatchNorm2d):
            module.bias.data.uniform_(-0.2, 0.2, generator=generator)
            module.running_mean.uniform_(-0.2, 0.2, generator=generator)


def test_there_is_one_small_member_of_each_family():
    assert {backbone(name).family for name in SMALL_MEMBERS} == {row.family for row in BACKBONES.values()}


@pytest.mark.parametrize("name", SMALL_MEMBERS)
@torch.no_grad()
def test_forward_equals_the_library_in_both_layouts_and_from_every_stage(name):
    torch.manual_seed(0)
    body, row = build_body(name).eval(), backbone(name)
    vary(body)
    images = torch.randn(2, 3, SMALL_MEMBERS[name], SMALL_MEMBERS[name])
    expected = features_of_library(row, body.trunk.state_dict(), images)
    for layout in (torch.contiguous_format, torch.channels_last):
        body, images = body.to(memory_format=layout), images.to(memory_format=layout)
        features = body(images)
        assert features.shape == (2, row.width)
        assert features.dtype == torch.float32
        assert features.std() > 0
        torch.testing.assert_close(features, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))
        for stage in range(len(body.stages) + 1):
            activations = body.forward_to(stage, images)
            copied = activations.clone()
            assert torch.equal(body.forward_from(stage, activations), features)
            assert torch.equal(activations, copied), "forward_from changed its input in place"


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
@torch.no_grad()
def test_statistics_of_one_half_equal_torchvisions_transform_input(name):
    row = backbone(name)
    network = models.get_model(name, weights=None, init_weights=False, transform_input=True, aux_logits=False)
    pixels = torch.rand(1, 3, 8, 8)
    channels = (-1, 1, 1)
    usual = (pixels - torch.tensor(models.ResNet18_Weights.DEFAULT.transforms().mean).view(channels)) / torch.tensor(
        models.ResNet18_Weights.DEFAULT.transforms().std
    ).view(channels)
    ours = (pixels - torch.tensor(row.mean).view(channels)) / torch.tensor(row.std).view(channels)
    torch.testing.assert_close(network._transform_input(usual), ours)


LARGE = re.compile(r"_(l|m|b[4-7]|large|base|small|8gf|16gf|32gf|128gf)$|101|152|161|169|201|vgg1[369]|wide")
"""Members of a family of which the default tests build a smaller one."""


@pytest.fixture(scope="module", params=[pytest.param(name, marks=pytest.mark.slow) if LARGE.search(name) else name for name in BACKBONES])
def empty(request):
    """Each row of the table, with its body on the meta device."""
    return backbone(request.param), build_empty_body(request.param)


def test_images_of_the_minimum_size_pass_in_training_mode(empty):
    row, body = empty
    images = torch.empty(2, 3, row.minimum_size, row.minimum_size, device="meta")
    assert body.train()(images).shape == (2, row.width)


def test_stages_cover_the_trunk_once_with_increasing_strides(empty):
    row, body = empty
    assert 4 <= len(body.stages) == len(row.stages) <= 6
    assert body.width == row.width
    assert [id(p) for stage in body.stages for p in stage.parameters()] == [id(p) for p in body.trunk.parameters()]
    assert all(any(p.ndim == 4 for p in stage.parameters()) for stage in body.stages), "a stage without convolutions"
    assert all(key.startswith("trunk.") for key in body.state_dict())

    strides = [[] for _ in body.stages]
    for stage, halvings in zip(body.stages, strides, strict=True):
        for module in stage:
            if any(p.ndim == 4 for p in module.parameters()):
                module.register_forward_hook(
                    lambda module, inputs, maps, halvings=halvings: halvings.append(round(math.log2(512 / maps.shape[-1])))
                )
    assert body.eval()(torch.empty(2, 3, 512, 512, device="meta")).shape == (2, row.width)
    assert all(len(set(halvings)) == 1 for halvings in strides), strides
    order = [halvings[0] for halvings in strides]
    assert order == sorted(order)
    assert len(set(order)) == len(order) or row.family == "alexnet"


@pytest.mark.parametrize("name", ["mnasnet0_5", "mobilenet_v3_small", "inception_v3"])
def test_batch_norm_has_momentum_0_1(name):
    norms = [module for module in build_empty_body(name).modules() if isinstance(module, nn.BatchNorm2d)]
    assert {norm.momentum for norm in norms} == {0.1}


def test_the_initialisation_equals_torchvision_with_the_same_seed():
    torch.manual_seed(3)
    body = build_body("mobilenet_v3_small")
    torch.manual_seed(3)
    network = models.mobilenet_v3_small(weights=None)
    own = {key: tensor for key, tensor in network.state_dict().items() if not key.startswith("classifier")}
    assert own.keys() == body.trunk.state_dict().keys()
    assert all(torch.equal(tensor, body.trunk.state_dict()[key]) for key, tensor in own.items())


def test_every_pooling_of_the_table_exists_and_an_unknown_backbone_is_rejected():
    assert {row.pooling for row in BACKBONES.values()} == set(POOLINGS)
    with pytest.raises(ConfigError, match="did you mean 'mobilenet_v3_small'"):
        build_body("mobilenet_v3_smal")
