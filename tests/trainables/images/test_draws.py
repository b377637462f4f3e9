import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainables.images.draws import Draws

MANY = np.arange(20_000)


@given(st.integers(0, 2**63 - 1), st.integers(0, 10**6), st.lists(st.integers(0, 10**9), min_size=1, max_size=8))
def test_what_a_sample_draws_does_not_depend_on_the_others(seed, view, samples):
    together = Draws(seed, view, np.array(samples))
    drawn = together.uniform(), together.uniform((2, 3), count=4), together.seeds(), together.integer(1, 6)
    for place, sample in enumerate(samples):
        alone = Draws(seed, view, np.array([sample]))
        assert alone.uniform() == drawn[0][place]
        assert np.array_equal(alone.uniform((2, 3), count=4)[0], drawn[1][place])
        assert alone.seeds() == drawn[2][place] >= 0
        assert alone.integer(1, 6) == drawn[3][place]


def test_numbers_are_uniform_in_their_range():
    values = Draws(0, 1, MANY).uniform((-2, 6), count=3)
    assert values.shape == (len(MANY), 3)
    assert values.min() >= -2
    assert values.max() < 6
    counts, _ = np.histogram(values, bins=16, range=(-2, 6))
    expected = values.size / 16
    assert ((counts - expected) ** 2 / expected).sum() < 44.3  # chi², 15 degrees of freedom: 1 in 10,000 is larger


def test_integers_include_both_ends_and_are_equally_frequent():
    values, counts = np.unique(Draws(3, 0, MANY).integer(1, 4), return_counts=True)
    assert values.tolist() == [1, 2, 3, 4]
    assert counts == pytest.approx(5000, abs=300)


def test_chance_is_the_share_of_the_samples():
    draws = Draws(0, 0, MANY)
    assert draws.chance(0.2).mean() == pytest.approx(0.2, abs=0.012)
    assert not draws.chance(0).any()
    assert draws.chance(1).all()


@pytest.mark.parametrize("other", [{"seed": 1}, {"view": 1}, {"samples": MANY + len(MANY)}])
def test_another_seed_view_or_sample_draws_independent_numbers(other):
    numbers = {"seed": 0, "view": 0, "samples": MANY}
    first, second = (Draws(**given).uniform() for given in (numbers, numbers | other))
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.03


def test_numbers_in_a_row_are_independent():
    values = Draws(5, 2, MANY).uniform(count=2)
    assert abs(np.corrcoef(values.T)[0, 1]) < 0.03
    assert abs(np.corrcoef(values[:-1, 0], values[1:, 0])[0, 1]) < 0.03
