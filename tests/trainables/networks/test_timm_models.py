import pytest
import timm
import torch
from torch import nn

from trainables.errors import ConfigError
from trainables.networks.backbones import backbone, check_image_size
from trainables.networks.bodies import build_body, build_empty_body
from trainables.networks.heads import build_head
from trainables.networks.model import Network

FAMILIES = {
    "convnext_tiny.fb_in22k_ft_in1k": (5, 768, 224),
    "deit3_small_patch16_224.fb_in1k": (4, 384, 224),
    "densenet121.ra_in1k": (5, 1024, 224),
    "dm_nfnet_f0.dm_in1k": (5, 3072, 192),
    "efficientnet_b0.ra_in1k": (5, 1280, 224),
    "eva02_tiny_patch14_224.mim_in22k": (4, 192, 224),
    "maxvit_rmlp_pico_rw_256.sw_in1k": (5, 256, 256),
    "mobilenetv4_conv_small.e2400_r224_in1k": (5, 1280, 224),
    "regnety_004.tv2_in1k": (5, 440, 224),
    "resnet18.a1_in1k": (5, 512, 224),
    "resnetv2_50.a1h_in1k": (5, 2048, 224),
    "selecsls42b.in1k": (5, 1024, 224),
    "swin_tiny_patch4_window7_224.ms_in1k": (5, 768, 224),
    "vgg11.tv_in1k": (6, 4096, 224),
    "visformer_tiny.in1k": (3, 384, 224),
    "vit_small_patch14_dinov2.lvd142m": (4, 384, 518),
    "vit_tiny_patch16_224.augreg_in21k_ft_in1k": (4, 192, 224),
}
"""A network of each family, without values → its number of stages, its width and its native size."""
VIT = "timm:vit_tiny_patch16_224"
SWIN = "timm:swin_tiny_patch4_window7_224.ms_in1k"
RESNET = "timm:resnet18.a1_in1k"


@pytest.fixture(scope="module", params=FAMILIES)
def empty(request):
    """The name of a network in timm, its row, and its body on the meta device."""
    name = f"timm:{request.param}"
    return request.param, backbone(name), build_empty_body(name)


def thawed(body, unfrozen):
    network = Network(body, nn.Linear(body.width, 3, device="meta"), unfrozen_stages=unfrozen)
    network.thaw(True)
    return network.train()


def leaves(module):
    return {id(part) for part in module.modules() if not list(part.children()) and not isinstance(part, nn.ParameterList)}


def test_the_row_and_the_features_are_those_of_the_network(empty):
    name, row, body = empty
    assert (len(body.stages), body.width, row.native_size) == FAMILIES[name]
    assert (row.timm_name, row.location, row.weights_file) == (name, f"timm/{name}", "model.safetensors")
    assert body.eval()(torch.empty(2, 3, row.native_size, row.native_size, device="meta")).shape == (2, row.width)


def test_stages_cover_each_parameter_once_and_freeze_from_the_front(empty):
    body = empty[2]
    in_stages = [parameter for stage in body.stages for parameter in stage.parameters()]
    assert sorted(map(id, in_stages)) == sorted(map(id, body.trunk.parameters()))
    assert all(any(parameter.ndim > 1 for parameter in stage.parameters()) for stage in body.stages), "a stage with norms only"
    for unfrozen in (0, 1, len(body.stages) - 1, len(body.stages)):
        thawed(body, unfrozen)
        expected = [False] * (len(body.stages) - unfrozen) + [True] * unfrozen
        assert [all(parameter.requires_grad for parameter in stage.parameters()) for stage in body.stages] == expected
        assert [any(parameter.requires_grad for parameter in stage.parameters()) for stage in body.stages] == expected


def test_dropout_and_norms_are_in_training_mode_with_their_stage(empty):
    body = empty[2]
    for unfrozen in (1, len(body.stages)):
        thawed(body, unfrozen)
        training = {id(module) for module in body.modules() if module.training}
        assert leaves(body) & training == {leaf for stage in body.stages[-unfrozen:] for leaf in leaves(stage)}
    assert leaves(body) <= training, "a module that is in no stage"


@pytest.mark.parametrize("name", [RESNET, VIT])
def test_a_step_changes_the_unfrozen_stages_only(name):
    torch.manual_seed(0)
    body = build_body(name, 64)
    assert not body.runs_in_parts
    network = Network(body, build_head(body.width, 3, layers=0, units=8), unfrozen_stages=1)
    network.thaw(True)
    network.train()
    before = [[parameter.clone() for parameter in stage.parameters()] for stage in body.stages]
    optimizer = torch.optim.SGD(network.parameter_groups(0.1, 0.5, 0.0), lr=0.1)
    logits = network(torch.randn(4, 3, 64, 64))
    assert logits.shape == (4, 3)
    nn.functional.cross_entropy(logits, torch.tensor([0, 1, 2, 0])).backward()
    optimizer.step()
    changed = [
        any(not torch.equal(old, new) for old, new in zip(values, stage.parameters(), strict=True))
        for values, stage in zip(before, body.stages, strict=True)
    ]
    assert changed == [False] * (len(body.stages) - 1) + [True]


@torch.no_grad()
def test_the_features_are_those_of_timm():
    torch.manual_seed(0)
    body = build_body(VIT).eval()
    network = timm.create_model("vit_tiny_patch16_224", num_classes=0).eval()
    network.load_state_dict(body.trunk.state_dict())
    images = torch.randn(1, 3, 224, 224)
    assert torch.equal(body(images), network(images))
    assert torch.equal(body.forward_to(0, images), images)
    assert torch.equal(body.forward_from(len(body.stages), body(images)), body(images))


def test_the_row_has_timms_statistics_and_default_weights():
    row = backbone(VIT)
    assert (row.mean, row.std) == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    assert row.location == "timm/vit_tiny_patch16_224.augreg_in21k_ft_in1k"
    assert (row.size_step, row.fixed_size) == (16, True)
    assert backbone(VIT) is row, "a row is made once"
    assert not backbone(RESNET).fixed_size


class TestImageSize:
    @pytest.mark.parametrize(
        ("name", "size"), [(VIT, 96), (VIT, 224), (RESNET, 97), ("timm:swin_tiny_patch4_window7_224", 96), ("timm:levit_128", 224)]
    )
    def test_a_size_that_the_network_takes_is_accepted(self, name, size):
        check_image_size(name, size)
        images = torch.empty(1, 3, size, size, device="meta")
        with torch.device("meta"):
            assert build_body(name, size).eval()(images).shape == (1, backbone(name).width)

    @pytest.mark.parametrize(
        ("name", "size", "message"),
        [
            (VIT, 100, "cannot take images of 100 pixels, because its patches have 16; it takes 96 and 112: pass --set image_size=112"),
            ("timm:vit_small_patch14_dinov2", 96, "because its patches have 14; it takes 84 and 98: pass --set image_size=98"),
            ("timm:maxvit_rmlp_pico_rw_256.sw_in1k", 100, "cannot take images of 100 pixels; it takes 96 and 128"),
            (VIT, 0, "it takes 16: "),
        ],
    )
    def test_another_size_is_refused_with_the_nearest_that_work(self, name, size, message):
        with pytest.raises(ConfigError, match=message):
            check_image_size(name, size)


class TestNames:
    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("timm:convnext_tinny", "timm has no network 'convnext_tinny'; did you mean timm:convnext_tiny"),
            ("timm:resnet18.a1_in2k", r"timm has no weights 'a1_in2k' for 'resnet18'; did you mean 'a1_in1k'\?"),
            ("timm:zzzzzz", r"timm has no network 'zzzzzz'; `python -c .*list_models.*lists all"),
            ("timm:", "timm has no network ''"),
            ("timm:hf-hub:timm/resnet18", "timm has no network 'hf-hub:timm/resnet18'"),
            ("convnextv2_atto", r"unknown backbone 'convnextv2_atto'.*timm's networks are named timm:NAME"),
        ],
    )
    def test_an_unknown_name_is_refused_with_advice(self, name, message):
        with pytest.raises(ConfigError, match=message):
            backbone(name)

    def test_a_network_without_groups_is_refused(self, monkeypatch):
        from timm.models.resnet import ResNet

        monkeypatch.delattr(ResNet, "group_matcher")
        with pytest.raises(ConfigError, match=r"timm:resnet26\.bt_in1k cannot be divided into stages by timm.*group_matcher"):
            backbone("timm:resnet26.bt_in1k")
