from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainables.data.splits import PARTS, SHARES, split
from trainables.errors import DataError

seeds = st.integers(0, 1000)
class_lists = st.lists(st.integers(0, 5), min_size=8, max_size=150)


def counts(parts):
    return {part: int((parts == part).sum()) for part in PARTS}


@given(class_lists, seeds)
@settings(deadline=None, max_examples=60)
def test_classes_are_spread_over_the_parts(labels, seed):
    targets = np.array(labels)
    parts = split(targets, "multiclass", None, None, seed)
    assert np.array_equal(parts, split(targets, "multiclass", None, None, seed))
    for label, total in Counter(labels).items():
        here = counts(parts[targets == label])
        assert sum(here.values()) == total
        assert here["train"] >= 1
        if total >= 3:
            assert min(here.values()) >= 1
        for part in PARTS:
            assert abs(here[part] - SHARES[part] * total) <= 1.5


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 30)), min_size=8, max_size=150), seeds)
@settings(deadline=None, max_examples=60)
def test_each_group_is_in_one_part(rows, seed):
    targets, groups = np.array(rows).T
    parts = split(targets, "multiclass", groups, None, seed)
    for group in set(groups.tolist()):
        assert len(set(parts[groups == group])) == 1
    assert set(targets[parts == "train"].tolist()) == set(targets.tolist())


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 9)), min_size=12, max_size=60), seeds)
@settings(deadline=None, max_examples=60)
def test_a_class_with_three_groups_of_its_own_is_in_every_part(families, seed):
    targets = np.concatenate([np.full(size, label) for label, size in families])
    groups = np.concatenate([np.full(size, index) for index, (_, size) in enumerate(families)])
    parts = split(targets, "multiclass", groups, None, seed)
    for label, number in Counter(label for label, _ in families).items():
        if number >= 3:
            assert min(counts(parts[targets == label]).values()) >= 1


@given(class_lists, st.lists(st.sampled_from(["train", "validation", "test", ""]), min_size=150, max_size=150), seeds)
@settings(deadline=None, max_examples=60)
def test_given_parts_are_kept(labels, given_parts, seed):
    targets, given_sides = np.array(labels), np.array(given_parts[: len(labels)])
    if not np.isin(given_sides, ["train", ""]).any():
        with pytest.raises(DataError, match="no image is left for training"):
            split(targets, "multiclass", None, given_sides, seed)
        return
    parts = split(targets, "multiclass", None, given_sides, seed)
    for part in ("validation", "test"):
        if (given_sides == part).any():
            assert np.array_equal(parts == part, given_sides == part)
        else:
            assert set(given_sides[parts == part].tolist()) <= {"train", ""}


def test_a_missing_part_is_taken_from_train():
    targets = np.arange(1000) % 4
    given_sides = np.where(np.arange(1000) < 850, "train", "test")
    parts = split(targets, "multiclass", None, given_sides, 0)
    assert counts(parts) == {"train": pytest.approx(700, abs=4), "validation": pytest.approx(150, abs=4), "test": 150}
    assert np.array_equal(parts == "test", given_sides == "test")


def test_a_group_given_to_two_parts_goes_to_train():
    given_sides = np.array(["train", "test"] + ["train"] * 6 + ["test"] * 4 + ["validation"] * 4)
    groups = np.array([0, 0, *range(1, 15)])
    parts = split(np.arange(16) % 2, "binary", groups, given_sides, 0)
    assert parts[:2].tolist() == ["train", "train"]
    assert np.array_equal(parts[2:], given_sides[2:])


def test_seeds_give_different_splits():
    targets = np.arange(200) % 2
    assert not np.array_equal(split(targets, "binary", None, None, 0), split(targets, "binary", None, None, 1))


@given(seeds)
@settings(deadline=None, max_examples=20)
def test_multilabel_positives_are_spread_over_the_parts(seed):
    rng = np.random.default_rng(seed)
    targets = (rng.random((400, 8)) < np.linspace(0.02, 0.6, 8)).astype(np.float32)
    parts = split(targets, "multilabel", None, None, seed)
    for label in range(8):
        positives = targets[:, label].sum()
        if positives >= 3:
            for part in PARTS:
                here = targets[parts == part, label].sum()
                assert here >= 1
                assert abs(here - SHARES[part] * positives) <= max(3, 0.05 * positives)
    assert counts(parts)["train"] == pytest.approx(280, abs=12)


def test_iterative_stratification_beats_a_random_split_on_rare_labels():
    rng = np.random.default_rng(0)
    targets = (rng.random((1000, 20)) < 0.03).astype(np.float32)

    def error(parts):
        return sum(np.abs(targets[parts == part].sum(0) / targets.sum(0) - SHARES[part]).mean() for part in PARTS)

    random = rng.choice(PARTS, 1000, p=list(SHARES.values()))
    assert error(split(targets, "multilabel", None, None, 0)) < error(random) / 3


def test_regression_is_stratified_by_quantile():
    targets = np.random.default_rng(0).lognormal(size=1000)
    parts = split(targets, "regression", None, None, 0)
    quartile = np.searchsorted(np.quantile(targets, [0.25, 0.5, 0.75]), targets)
    for part in PARTS:
        shares = np.bincount(quartile[parts == part], minlength=4) / (parts == part).sum()
        assert shares == pytest.approx([0.25] * 4, abs=0.02)


@pytest.mark.slow
def test_100_000_samples_of_many_classes_and_groups_are_split_in_the_usual_shares():
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 50_000, 100_000)
    classes = split(rng.integers(0, 1000, 100_000), "multiclass", None, None, 0)
    labels = split((rng.random((100_000, 20)) < 0.1).astype(np.float32), "multilabel", groups, None, 0)
    for parts in (classes, labels):
        assert [np.mean(parts == part) for part in PARTS] == pytest.approx([*SHARES.values()], abs=0.01)
    assert all(len(set(labels[groups == group])) <= 1 for group in range(100))
