"""Training, validation and test parts: deterministic, stratified, no group on two sides."""

import random

import numpy as np
import numpy.typing as npt

from trainables.config import TaskName
from trainables.errors import DataError

PARTS = ("train", "validation", "test")
SHARES = {"train": 0.70, "validation": 0.15, "test": 0.15}
BIN = 20  # regression: samples a quantile bin, about
MOST_BINS = 20

Contents = list[tuple[tuple[int, int], ...]]  # of each group: its labels and how many of its samples have them


def split(
    targets: npt.NDArray[np.generic],
    task: TaskName,
    groups: npt.NDArray[np.generic] | None,
    given: npt.NDArray[np.str_] | None,
    seed: int,
) -> npt.NDArray[np.str_]:
    """Return the part of each sample, ``(N,) str`` of train, validation and test: 70/15/15, stratified.

    ``given`` parts are kept, '' counting as train; a missing validation or test part is carved from train. A group that was given
    to several parts goes to train as a whole. Each class is in train, and in every part if it has a group for each.
    Raises ``DataError`` if parts are given but none for training.
    """
    _, group = np.unique(np.arange(len(targets)) if groups is None else groups, return_inverse=True)
    sides = _given_sides(group, given)
    if "" not in sides and "train" not in sides:
        raise DataError("no image is left for training: every one is given to validation or test")
    carved = [part for part in PARTS if part == "train" or part not in sides]
    pool = [index for index, side in enumerate(sides) if not side]
    if len(carved) > 1:
        contents, sizes = _contents(_strata(targets, task), group, len(sides))
        dealt = _Deal([contents[index] for index in pool], [sizes[index] for index in pool], carved, seed).run()
        for index, part in zip(pool, dealt, strict=True):
            sides[index] = part
    return np.array([side or "train" for side in sides], dtype="<U10")[group]


def _given_sides(group: npt.NDArray[np.intp], given: npt.NDArray[np.str_] | None) -> list[str]:
    """Return each group's part: '' where it may be dealt, train where it was torn between parts."""
    count = int(group.max(initial=-1)) + 1
    if given is None:
        return [""] * count
    seen: list[set[str]] = [set() for _ in range(count)]
    for index, part in zip(group.tolist(), given.tolist(), strict=True):
        seen[index].add("" if part == "train" else part)
    return [parts.pop() if len(parts) == 1 else "train" for parts in seen]


def _strata(targets: npt.NDArray[np.generic], task: TaskName) -> npt.NDArray[np.intp]:
    """Return the pairs (sample, label) to spread evenly, ``(P, 2)``: classes, labels or quantile bins."""
    if task == "multilabel":
        return np.argwhere(targets.astype(np.float64) > 0)
    labels = np.unique(targets, return_inverse=True)[1]
    if task == "regression":
        values = targets.astype(np.float64)
        bins = min(MOST_BINS, max(1, len(values) // BIN))
        labels = np.searchsorted(np.quantile(values, np.arange(1, bins) / bins), values, side="right")
    return np.stack([np.arange(len(targets)), labels], axis=1)


def _contents(strata: npt.NDArray[np.intp], group: npt.NDArray[np.intp], count: int) -> tuple[Contents, list[int]]:
    pairs, times = np.unique(np.stack([group[strata[:, 0]], strata[:, 1]], axis=1), axis=0, return_counts=True)
    contents: list[list[tuple[int, int]]] = [[] for _ in range(count)]
    for (index, label), number in zip(pairs.tolist(), times.tolist(), strict=True):
        contents[index].append((label, number))
    return [tuple(content) for content in contents], np.bincount(group, minlength=count).tolist()


class _Deal:
    """Iterative stratification (Sechidis, Tsoumakas and Vlahavas 2011, algorithm 1), of groups instead of samples.

    The rarest label is dealt first, each of its groups to the part that wants the label most; large groups before small ones.
    Before that every part gets one group of each label that has enough of them.
    """

    def __init__(self, contents: Contents, sizes: list[int], parts: list[str], seed: int) -> None:
        self.contents, self.sizes, self.parts = contents, sizes, parts
        total = sum(SHARES[part] for part in parts)
        self.room = {part: SHARES[part] / total * sum(sizes) for part in parts}
        self.order = list(range(len(contents)))
        random.Random(seed).shuffle(self.order)
        self.order.sort(key=lambda index: -sizes[index])
        self.members: dict[int, list[int]] = {}
        amounts: dict[int, int] = {}
        for index in self.order:
            for label, number in contents[index]:
                self.members.setdefault(label, []).append(index)
                amounts[label] = amounts.get(label, 0) + number
        self.wanted = {part: {label: SHARES[part] / total * amount for label, amount in amounts.items()} for part in parts}
        self.left = {label: len(members) for label, members in self.members.items()}
        self.covered: dict[str, set[int]] = {part: set() for part in parts}
        self.dealt = [""] * len(contents)

    def run(self) -> list[str]:
        """Return the part of each group."""
        self._cover()
        while any(self.left.values()):
            label = min((left, label) for label, left in self.left.items() if left)[1]
            for index in self.members[label]:
                if not self.dealt[index]:
                    self._place(index, max(self.parts, key=lambda part: (self.wanted[part][label], self.room[part])))
        for index in self.order:
            if not self.dealt[index]:
                self._place(index, max(self.parts, key=self.room.__getitem__))
        return self.dealt

    def _cover(self) -> None:
        """One group of each label to every part: to train the largest, to the others the smallest."""
        rarest_first = sorted(self.members, key=lambda label: (len(self.members[label]), label))
        for part in self.parts:
            for label in rarest_first:
                members = self.members[label]
                if label in self.covered[part] or (part != "train" and len(members) < len(self.parts)):
                    continue
                free = next((index for index in (members if part == "train" else reversed(members)) if not self.dealt[index]), None)
                if free is not None:
                    self._place(free, part)

    def _place(self, index: int, part: str) -> None:
        self.dealt[index] = part
        self.room[part] -= self.sizes[index]
        for label, number in self.contents[index]:
            self.wanted[part][label] -= number
            self.left[label] -= 1
            self.covered[part].add(label)
