"""Identical images, and groups, stay on one side of the split."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from trainables.data.samples import Samples, listed
from trainables.data.splits import split
from trainables.errors import DataError


def split_together(
    samples: Samples, readable: npt.NDArray[np.int64], digests: Sequence[str], *, seed: int, strict: bool, notes: list[str]
) -> npt.NDArray[np.str_]:
    """Return the part of each readable image, identical ones together, contradicting ones in train; adds what was found to ``notes``.

    Raises ``DataError`` for contradicting images if ``strict``, and for groups that the given parts tear.
    """
    targets = samples.targets[readable]
    given = None if samples.splits is None else samples.splits[readable].copy()
    twins = _twins([digests[index] for index in readable])
    contradicting = [twin for twin in twins if len(np.unique(targets[twin], axis=0)) > 1]
    if contradicting:
        shown = listed(" = ".join(_described(samples, readable[twin])) for twin in contradicting)
        if strict:
            raise DataError(
                f"{len(contradicting):,} images have several labels: {shown}; mend them, or leave out --strict to keep them in train"
            )
        notes.append(f"{len(contradicting):,} images have several labels and were kept in train only: {shown}")
    if given is not None:
        _refuse_torn_groups(samples, readable, given)
        torn = [twin for twin in twins if len({part or "train" for part in given[twin].tolist()}) > 1]
        if torn:
            shown = listed(" = ".join(samples.names[index] for index in readable[twin]) for twin in torn)
            notes.append(f"{len(torn):,} images stand in several of the given parts and were moved to train: {shown}")
    elif twins:
        notes.append(f"{len(twins):,} images occur more than once ({sum(map(len, twins)):,} files); copies stay on one side of the split")
    groups = _joined(np.arange(len(readable)) if samples.groups is None else samples.groups[readable], twins)
    fixed = np.isin(groups, groups[[twin[0] for twin in contradicting]]) if contradicting else np.zeros(len(readable), bool)
    parts = np.full(len(readable), "train", dtype="<U10")
    if not fixed.all():
        free = ~fixed
        parts[free] = split(targets[free], samples.task, groups[free], None if given is None else given[free], seed)
    return parts


def _twins(digests: Iterable[str]) -> list[npt.NDArray[np.int64]]:
    """Return the positions of each set of two or more identical images."""
    places: dict[str, list[int]] = {}
    for position, digest in enumerate(digests):
        places.setdefault(digest, []).append(position)
    return [np.array(positions, np.int64) for positions in places.values() if len(positions) > 1]


def _described(samples: Samples, indices: npt.NDArray[np.int64]) -> list[str]:
    def label(index: np.int64) -> str:
        target = samples.targets[index]
        if samples.task == "regression":
            return f"{target:g}"
        if samples.task == "multilabel":
            return "|".join(name for name, has in zip(samples.classes, target, strict=True) if has)
        return samples.classes[int(target)]

    return [f"{samples.names[index]} ({label(index)})" for index in indices]


def _refuse_torn_groups(samples: Samples, readable: npt.NDArray[np.int64], given: npt.NDArray[np.str_]) -> None:
    if samples.groups is None:
        return
    pairs = {(group, part or "train") for group, part in zip(samples.groups[readable].tolist(), given.tolist(), strict=True)}
    torn = sorted(group for group, times in Counter(group for group, _ in pairs).items() if times > 1)
    if torn:
        raise DataError(
            f"{len(torn):,} groups stand in several of the given parts: {listed(torn)}; mend the table, or ignore one column "
            "with --set data.group_column='' or --set data.split_column=''"
        )


def _joined(groups: npt.NDArray[Any], twins: list[npt.NDArray[np.int64]]) -> npt.NDArray[np.int64]:
    """Return groups as numbers, with those that share an image made one (union-find)."""
    numbers = np.unique(groups, return_inverse=True)[1].astype(np.int64)
    parent = list(range(int(numbers.max()) + 1))

    def top(group: int) -> int:
        while parent[group] != group:
            parent[group] = group = parent[parent[group]]
        return group

    for twin in twins:
        for member in numbers[twin[1:]].tolist():
            parent[top(member)] = top(int(numbers[twin[0]]))
    return np.array([top(group) for group in range(len(parent))], np.int64)[numbers]
