import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, IntDistribution

from search.space.default_space import BATCH_STEP
from tests.search.conftest import make_space
from tests.search.space.asking import ask


def searched(space):
    return {parameter.name: parameter.distribution for parameter in space.parameters}


def test_the_default_space_varies_what_the_readme_names():
    names = "learning_rate unfrozen_stages epochs batch_size head_layers head_units activation initializer augmentation_strength"
    assert list(searched(make_space())) == names.split()


def test_backbone_and_image_size_need_a_choice():
    assert not {"backbone", "image_size"} & make_space().describe().keys()
    several = make_space(backbones=("resnet18", "mobilenet_v3_small"), image_sizes=(64, 96)).describe()
    assert several["backbone"] == "resnet18, mobilenet_v3_small"
    assert several["image_size"] == "64 to 96 by 32"


@pytest.mark.parametrize(
    ("sizes", "distribution"),
    [
        ((96, 128, 160), IntDistribution(96, 160, step=32)),
        ((64, 96), IntDistribution(64, 96, step=32)),
        ((96, 128, 224), CategoricalDistribution((96, 128, 224))),
    ],
)
def test_only_the_given_image_sizes_are_searched(sizes, distribution):
    space = make_space(image_sizes=sizes)
    assert searched(space)["image_size"] == distribution
    assert {ask(space, seed)[0].image_size for seed in range(30)} == set(sizes)


@given(st.integers(8, 2000))
def test_batches_are_at_most_a_quarter_of_the_images(images):
    space = make_space(images=images)
    largest = max(space.possible_values("batch_size"))
    assert largest <= max(2, images // 4)
    ranges = searched(space)
    assert ("batch_size" in ranges) == (images >= 8 * BATCH_STEP)
    assert all(dist.high == min(64, images // 4 // 16 * 16) for name, dist in ranges.items() if name == "batch_size")
