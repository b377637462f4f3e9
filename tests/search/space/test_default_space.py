from hypothesis import given
from hypothesis import strategies as st

from tests.search.conftest import make_space
from tests.search.space.asking import ask


def test_label_smoothing_needs_multiclass_and_backbone_needs_a_choice():
    assert "label_smoothing" in ask(make_space())[1]
    assert "label_smoothing" not in ask(make_space(task="binary"))[1]
    assert "backbone" not in make_space().describe()
    assert make_space(backbones=("resnet18", "mobilenet_v3_small")).describe()["backbone"] == "resnet18, mobilenet_v3_small"


@given(st.integers(8, 2000))
def test_batches_are_at_most_a_quarter_of_the_images(images):
    space = make_space(images=images)
    assert max(value for p in space.parameters if p.sets == "batch_size" for value in p.extremes()) <= max(2, images // 4)
