from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from trainables.data.dataset import prepare
from trainables.data.folds import fold_datasets
from trainables.data.source_options import SourceOptions
from trainables.data.splits import split_into_folds
from trainables.errors import DataError


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 30)), min_size=20, max_size=150), st.integers(2, 6), st.integers(0, 1000))
def test_folds_are_nearly_equal_and_keep_groups_together(rows, folds, seed):
    targets, groups = np.array(rows).T
    fold = split_into_folds(targets, "multiclass", groups, folds, seed)
    assert np.array_equal(fold, split_into_folds(targets, "multiclass", groups, folds, seed))
    assert all(len(set(fold[groups == group])) == 1 for group in set(groups.tolist()))
    largest = np.bincount(np.unique(groups, return_inverse=True)[1]).max()
    sizes = np.bincount(fold, minlength=folds)
    assert sizes.max() - sizes.min() <= 4 * largest + 4, "as equal as whole groups of four classes allow"


@given(st.lists(st.integers(0, 4), min_size=10, max_size=150), st.integers(2, 5), st.integers(0, 1000))
def test_classes_are_spread_over_the_folds(labels, folds, seed):
    targets = np.array(labels)
    fold = split_into_folds(targets, "multiclass", np.arange(len(targets)), folds, seed)
    for label in set(labels):
        here = np.bincount(fold[targets == label], minlength=folds)
        assert here.max() - here.min() <= 2


@pytest.mark.parametrize("task", ["multiclass", "binary", "multilabel", "regression"])
def test_each_image_but_those_of_the_test_is_measured_in_one_fold_and_learnt_in_the_others(request, task):
    dataset = request.getfixturevalue(task)
    together = np.sort(np.concatenate([dataset.rows["train"], dataset.rows["validation"]]))
    parts = fold_datasets(dataset, 3)
    assert np.array_equal(np.sort(np.concatenate([part.rows["validation"] for part in parts])), together)
    for part in parts:
        assert np.array_equal(np.sort(np.concatenate([part.rows["train"], part.rows["validation"]])), together)
        assert np.array_equal(part.rows["test"], dataset.rows["test"])


def test_images_of_one_group_are_in_one_fold(multiclass):
    grouped = replace(multiclass, groups=multiclass.groups // 4)
    for part in fold_datasets(grouped, 3):
        measured = set(grouped.groups[part.rows["validation"]].tolist())
        assert not measured & set(grouped.groups[part.rows["train"]].tolist())


def test_images_with_several_labels_are_trained_on_in_every_fold_and_measured_in_none(tmp_path):
    rng = np.random.default_rng(0)
    for index in range(30):
        pixels = rng.integers(0, 255, (20, 20, 3), np.uint8)
        for name in "ab" if index % 3 == 0 else "ab"[index % 2]:
            (tmp_path / name).mkdir(exist_ok=True)
            Image.fromarray(pixels).save(tmp_path / name / f"{index}.png")
    dataset = prepare(str(tmp_path), image_size=16)
    contradicting = np.flatnonzero(dataset.groups == -1)
    assert len(contradicting) == 20
    for part in fold_datasets(dataset, 3):
        assert set(contradicting) <= set(part.rows["train"])
        assert not set(contradicting) & set(part.rows["validation"])


def test_groups_are_part_of_the_fingerprint(multiclass, tmp_path):
    rng = np.random.default_rng(0)
    lines = ["image,label,group,split"]
    for index in range(40):
        Image.fromarray(rng.integers(0, 255, (20, 20, 3), np.uint8)).save(tmp_path / f"{index}.png")
        part = "train" if index < 24 else "validation" if index < 32 else "test"
        lines.append(f"{index}.png,{'ab'[index % 2]},{index // 2},{part}")
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    grouped, plain = (
        prepare(str(tmp_path), SourceOptions(label_columns=("label",), group_column=column), image_size=16) for column in ("group", "")
    )
    assert all(np.array_equal(grouped.rows[part], plain.rows[part]) for part in plain.rows)
    assert grouped.fingerprint != plain.fingerprint
    assert len(set(plain.groups)) == 40


def test_too_few_groups_or_images_of_a_class_are_refused_with_the_remedy(multiclass):
    with pytest.raises(DataError, match=r"2 of 4 folds would have no image: the 41 training and validation images are too few.*; choose"):
        fold_datasets(replace(multiclass, groups=multiclass.groups % 2), 4)
    rows = multiclass.rows["train"]
    first = rows[multiclass.targets[rows] == 0]
    only_one = replace(multiclass, rows={**multiclass.rows, "train": np.setdiff1d(rows, first[1:]), "validation": first[:0]})
    with pytest.raises(DataError, match=r"a fold would hold every image of blue, and its network could not learn it; choose fewer"):
        fold_datasets(only_one, 3)
