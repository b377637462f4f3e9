"""Splits of samples into train, validation and test, and into folds: deterministic, stratified, each group in one part."""

import random

import numpy as np
import numpy.typing as npt

from trainables.config import TaskName
from trainables.errors import DataError

PARTS = ("train", "validation", "test")
SHARES = {"train": 0.70, "validation": 0.15, "test": 0.15}
SAMPLES_A_BIN = 20  # regression: about so many samples in a quantile bin
MOST_BINS = 20

LabelCounts = list[tuple[tuple[int, int], ...]]
"""For each group, its pairs (label, number of the group's samples with this label)."""


def split(
    targets: npt.NDArray[np.generic],
    task: TaskName,
    groups: npt.NDArray[np.generic] | None,
    given: npt.NDArray[np.str_] | None,
    seed: int,
) -> npt.NDArray[np.str_]:
    """Return train, validation or test for each of N samples, ``(N,) str``: 70/15/15, stratified by class, label or quantile.

    `targets`: ``(N,)``, for multilabel ``(N, K)``. `groups`: each sample's group, ``(N,)``; None: every sample is a group of its own.
    `given`: each sample's part, ``(N,)``, which is kept; '' counts as train. If no group has validation (or test) in `given`, that part
    is taken from train. A group with several parts in `given` goes to train as a whole. Each class is in train, and in every part if it
    has enough groups. Raises ``DataError`` if all samples are given to validation or test.
    """
    _, group = np.unique(np.arange(len(targets)) if groups is None else groups, return_inverse=True)
    sides = _given_parts(group, given)
    if "" not in sides and "train" not in sides:
        raise DataError("no image is left for training: every one is given to validation or test")
    taken_from_train = [part for part in PARTS if part == "train" or part not in sides]
    pool = [index for index, side in enumerate(sides) if not side]
    if len(taken_from_train) > 1:
        counts, sizes = _label_counts(_strata(targets, task), group, len(sides))
        shares = {part: SHARES[part] for part in taken_from_train}
        assigned = _Stratification([counts[index] for index in pool], [sizes[index] for index in pool], shares, seed).run()
        for index, part in zip(pool, assigned, strict=True):
            sides[index] = part
    return np.array([side or "train" for side in sides], dtype="<U10")[group]


def split_into_folds(
    targets: npt.NDArray[np.generic], task: TaskName, groups: npt.NDArray[np.generic], folds: int, seed: int
) -> npt.NDArray[np.int64]:
    """Return the fold, from 0, of each of N samples, ``(N,) int64``: nearly equal folds, stratified by class, label or quantile.

    `targets` and `groups`: see `split`. A fold is empty where there are fewer groups than folds.
    """
    _, group = np.unique(groups, return_inverse=True)
    counts, sizes = _label_counts(_strata(targets, task), group, int(group.max()) + 1)
    assigned = _Stratification(counts, sizes, {str(fold): 1 / folds for fold in range(folds)}, seed).run()
    return np.array(assigned, np.int64)[group]


def _given_parts(group: npt.NDArray[np.intp], given: npt.NDArray[np.str_] | None) -> list[str]:
    """Return the part of each group number: '' if it is not given or is train, 'train' if its samples have several parts.

    `group`: each sample's group number from 0, ``(N,)``. Only groups with '' can be moved to another part.
    """
    count = int(group.max(initial=-1)) + 1
    if given is None:
        return [""] * count
    seen: list[set[str]] = [set() for _ in range(count)]
    for index, part in zip(group.tolist(), given.tolist(), strict=True):
        seen[index].add("" if part == "train" else part)
    return [parts.pop() if len(parts) == 1 else "train" for parts in seen]


def _strata(targets: npt.NDArray[np.generic], task: TaskName) -> npt.NDArray[np.intp]:
    """Return pairs (sample, label) as indices, ``(P, 2)``. A label is a class, a label of multilabel, or a quantile bin of regression."""
    if task == "multilabel":
        return np.argwhere(targets.astype(np.float64) > 0)
    labels = np.unique(targets, return_inverse=True)[1]
    if task == "regression":
        values = targets.astype(np.float64)
        bins = min(MOST_BINS, max(1, len(values) // SAMPLES_A_BIN))
        labels = np.searchsorted(np.quantile(values, np.arange(1, bins) / bins), values, side="right")
    return np.stack([np.arange(len(targets)), labels], axis=1)


def _label_counts(strata: npt.NDArray[np.intp], group: npt.NDArray[np.intp], count: int) -> tuple[LabelCounts, list[int]]:
    """Return the label counts of each of `count` groups, and the number of samples in each group.

    `strata`: see `_strata`. `group`: each sample's group number, ``(N,)``.
    """
    pairs, times = np.unique(np.stack([group[strata[:, 0]], strata[:, 1]], axis=1), axis=0, return_counts=True)
    counts: list[list[tuple[int, int]]] = [[] for _ in range(count)]
    for (index, label), number in zip(pairs.tolist(), times.tolist(), strict=True):
        counts[index].append((label, number))
    return [tuple(group_counts) for group_counts in counts], np.bincount(group, minlength=count).tolist()


class _Stratification:
    """Iterative stratification (Sechidis, Tsoumakas and Vlahavas 2011, algorithm 1), of groups instead of samples.

    The rarest label is assigned first, each of its groups to the part that lacks most samples of the label, large groups before small
    ones. Before that, every part gets one group of each label that has enough groups.
    `counts`, `sizes`: the label counts and the number of samples of each group. `shares`: part to fill → its share, in any unit.
    """

    def __init__(self, counts: LabelCounts, sizes: list[int], shares: dict[str, float], seed: int) -> None:
        self.counts, self.sizes, self.parts = counts, sizes, list(shares)
        total = sum(shares.values())
        self.room = {part: share / total * sum(sizes) for part, share in shares.items()}
        self.order = list(range(len(counts)))
        random.Random(seed).shuffle(self.order)
        self.order.sort(key=lambda index: -sizes[index])
        self.members: dict[int, list[int]] = {}
        amounts: dict[int, int] = {}
        for index in self.order:
            for label, number in counts[index]:
                self.members.setdefault(label, []).append(index)
                amounts[label] = amounts.get(label, 0) + number
        self.wanted = {part: {label: share / total * amount for label, amount in amounts.items()} for part, share in shares.items()}
        self.left = {label: len(members) for label, members in self.members.items()}
        self.covered: dict[str, set[int]] = {part: set() for part in shares}
        self.assigned = [""] * len(counts)

    def run(self) -> list[str]:
        """Assign every group, and return the part of each."""
        self._cover()
        while any(self.left.values()):
            label = min((left, label) for label, left in self.left.items() if left)[1]
            for index in self.members[label]:
                if not self.assigned[index]:
                    self._assign(index, max(self.parts, key=lambda part: (self.wanted[part][label], self.room[part])))
        for index in self.order:
            if not self.assigned[index]:
                self._assign(index, max(self.parts, key=self.room.__getitem__))
        return self.assigned

    def _cover(self) -> None:
        """Assign to train the largest group of each label, and to the other parts the smallest of each label that has enough groups."""
        rarest_first = sorted(self.members, key=lambda label: (len(self.members[label]), label))
        for part in self.parts:
            for label in rarest_first:
                members = self.members[label]
                if label in self.covered[part] or (part != "train" and len(members) < len(self.parts)):
                    continue
                free = next((index for index in (members if part == "train" else reversed(members)) if not self.assigned[index]), None)
                if free is not None:
                    self._assign(free, part)

    def _assign(self, index: int, part: str) -> None:
        self.assigned[index] = part
        self.room[part] -= self.sizes[index]
        for label, number in self.counts[index]:
            self.wanted[part][label] -= number
            self.left[label] -= 1
            self.covered[part].add(label)
