import pytest

from search.config import SearchConfig
from search.space.backbone_choice import choose_backbones
from trainables.errors import ConfigError, WeightsError


def test_default_backbones_depend_on_the_weights():
    assert choose_backbones(SearchConfig()) == ("mobilenet_v3_small",)
    assert choose_backbones(SearchConfig(weights="none")) == ("mobilenet_v3_small", "resnet18")


def test_named_backbones_replace_the_default():
    assert choose_backbones(SearchConfig(weights="none", backbones=("resnet50",))) == ("resnet50",)
    assert choose_backbones(SearchConfig(weights="none"), ["resnet18", "alexnet"]) == ("resnet18", "alexnet")
    assert choose_backbones(SearchConfig(weights="none"), "alexnet") == ("alexnet",)


def test_a_named_backbone_without_weights_is_refused():
    with pytest.raises((ConfigError, WeightsError)):
        choose_backbones(SearchConfig(backbones=("resnet18",)))


@pytest.mark.parametrize("named", [3, [1, 2], {"low": 1}])
def test_a_space_of_backbones_without_names_is_refused(named):
    with pytest.raises(ConfigError, match=r"space\.backbone takes a name or a list of names"):
        choose_backbones(SearchConfig(weights="none"), named)
