from hypothesis import given
from hypothesis import strategies as st

from tests.search.conftest import make_space


@given(st.floats(0, 1), st.integers(1, 8))
def test_nearest_is_a_value_of_the_range(value, eighths):
    space = make_space({"augmentation_strength": {"high": eighths / 8}})
    parameter = next(p for p in space.parameters if p.name == "augmentation_strength")
    nearest = parameter.nearest(value)
    assert parameter.distribution._contains(nearest)
    assert abs(nearest - min(value, eighths / 8)) <= 0.0625 + 1e-9
