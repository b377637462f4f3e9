"""Whether the numbers in a column are classes or a quantity."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainables.data.numeric_labels import name_kind, read_numbers

RNG = np.random.default_rng(0)
AGES = RNG.normal(40, 18, 5000).clip(0, 90).round()
COLUMNS = {
    "cars": ("label", np.arange(8144) % 196, True),
    "hundreds of classes, unnamed": ("y", np.arange(8144) % 196, True),
    "few images of many classes": ("class_id", np.arange(450) % 150, True),
    "grades": ("diagnosis", RNG.choice(5, 3662, p=[0.5, 0.1, 0.25, 0.05, 0.1]), True),
    "from 1": ("emotion", 1 + np.arange(70) % 7, True),
    "two numbers": ("target", np.resize([4, 9, 9], 60), True),
    "few rows of a label": ("label", [3, 10, 2], True),
    "a subset of classes": ("label", np.resize([3, 17, 96], 30), True),
    "group of ages": ("age_group", np.arange(900) % 9, True),
    "zero and one": ("value", [0, 1, 1], True),
    "ages": ("age", AGES, False),
    "ages, unnamed": ("y", np.append(AGES, 117), False),
    "months of bone age": ("boneage", RNG.choice(np.arange(1, 229, 3), 12_611), False),
    "counts": ("num_leaves", RNG.integers(1, 9, 800), False),
    "the number that a hand shows": ("sign_value", np.arange(800) % 10, False),
    "prices": ("price", np.resize([100, 150, 200], 300), False),
    "prices, unnamed": ("y", np.resize([100, 150, 200], 300), False),
    "years": ("y", 1990 + np.arange(900) % 30, False),
    "row numbers": ("label", np.arange(5000), False),
    "fractions": ("label", np.resize([0.5, 1, 2], 300), False),
    "hardly repeated": ("y", np.arange(40) % 10, False),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_columns_that_people_bring(name):
    column, values, classes = COLUMNS[name]
    assert read_numbers(column, [float(value) for value in values]).classes == classes


def test_the_reason_names_the_cause_and_the_other_reading():
    assert read_numbers("grade", [0.0, 1.0, 2.0] * 9).reason == (
        "the numbers in column 'grade' (0 to 2) are read as classes because they repeat; if they measure something, pass --task regression"
    )
    assert read_numbers("value", [0.0, 1.0, 2.0] * 9).reason == (
        "inferred from the numbers in column 'value' (0 to 2), because of its name; if they are classes, pass --task multiclass"
    )


@pytest.mark.parametrize(
    ("column", "kind"),
    [("label", "classes"), ("ClassID", "classes"), ("target_class", "classes"), ("count_label", "classes"), ("sign_value", "quantity")]
    + [("label_count", "quantity"), ("boneAge", "quantity"), ("HEIGHT_cm", "quantity"), ("number_of_cells", "quantity"), ("n", None)]
    + [("y", None), ("diagnosis", None), ("0", None), ("", None), ("\u7c7b", None)],
)
def test_the_last_telling_word_of_a_name_counts(column, kind):
    assert name_kind(column) == kind


numbers = st.lists(st.integers(-3, 12).map(float), min_size=1, max_size=120)


@given(st.sampled_from(["y", "label", "value"]), numbers, st.randoms(), st.integers(2, 6))
def test_order_does_not_matter_and_repetition_only_speaks_for_classes(column, values, random, times):
    classes = read_numbers(column, values).classes
    shuffled = random.sample(values, len(values))
    assert read_numbers(column, shuffled).classes == classes
    assert read_numbers(column, shuffled * times).classes >= classes
    assert not read_numbers(column, [*values, 0.5]).classes


@given(st.integers(1, 300), st.integers(5, 8))
def test_a_repeated_count_from_0_or_1_is_classes(number, times):
    for first in (0, 1):
        values = [float(first + index) for index in range(number + 1)] * times
        assert read_numbers("y", values).classes
