from hypothesis import given
from hypothesis import strategies as st

from tests.search.conftest import make_space


@given(st.floats(0, 1), st.integers(1, 4))
def test_nearest_is_a_value_of_the_range(value, quarters):
    space = make_space({"augmentation_strength": {"high": quarters / 4}})
    parameter = next(p for p in space.parameters if p.name == "augmentation_strength")
    nearest = parameter.nearest(value)
    assert parameter.distribution._contains(nearest)
    assert abs(nearest - min(value, quarters / 4)) <= 0.125 + 1e-9
