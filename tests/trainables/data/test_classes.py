"""The order of the classes and the positive class of a binary task."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainables.data.classes import read_classes
from trainables.data.source_options import SourceOptions
from trainables.errors import DataError


def classes_of(*labels, **options):
    return read_classes(labels, SourceOptions(**options), "folders")


def test_the_rarer_class_is_the_positive_one():
    found = classes_of(*["defect"] * 4, *["ok"] * 26)
    assert (found.task, found.names) == ("binary", ("ok", "defect"))
    assert "the positive class is 'defect', the rarer one (4 of 30 images); data.positive names another" in found.note
    assert classes_of(*["defect"] * 26, *["ok"] * 4).names == ("defect", "ok")


@pytest.mark.parametrize(
    "pair", [("0", "1"), ("-1", "1"), ("False", "True"), ("no", "yes"), ("NEGATIVE", "Positive"), ("normal", "abnormal")]
)
@pytest.mark.parametrize("positives", [1, 5, 9])
def test_a_name_that_says_so_is_positive_also_as_the_majority(pair, positives):
    negative, positive = pair
    found = classes_of(*[positive] * positives, *[negative] * (10 - positives))
    assert found.names == (negative, positive)
    assert f"the positive class is {positive!r}, because of its name" in found.note


def test_of_equally_frequent_classes_the_second_by_name_is_positive():
    found = classes_of("b", "a", "a", "b")
    assert found.names == ("a", "b")
    assert "the second by name, because each has 2 images" in found.note


def test_given_classes_and_a_given_positive_class_decide():
    assert classes_of("a", "b", "b", classes=("a", "b")).names == ("a", "b")
    assert classes_of("0", "1", "1", positive="0").names == ("1", "0")
    assert classes_of("a", "b", "b", classes=("a", "b"), positive="b").names == ("a", "b")
    assert "the positive class is '0', as given" in classes_of("0", "1", positive="0").note
    with pytest.raises(DataError, match=r"data\.positive is 'a', but data\.classes names 'b' second.*remove one of the two"):
        classes_of("a", "b", "b", classes=("a", "b"), positive="a")
    with pytest.raises(DataError, match=r"data\.positive names 'defct', which no image has; did you mean 'defect'"):
        classes_of("defect", "ok", "ok", positive="defct")


def test_several_classes_are_sorted_whatever_their_numbers():
    found = classes_of("c", "a", "a", "b", "b", "b")
    assert (found.task, found.names) == ("multiclass", ("a", "b", "c"))
    assert "positive" not in found.note
    assert classes_of("a", "a", "b", task="multiclass").names == ("a", "b")


@given(st.lists(st.sampled_from(["ok", "defect"]), min_size=2).filter(lambda labels: len(set(labels)) == 2))
def test_the_positive_class_is_never_the_more_frequent_one(labels):
    negative, positive = classes_of(*labels).names
    assert labels.count(positive) <= labels.count(negative)
    assert classes_of(*reversed(labels)).names == (negative, positive)
