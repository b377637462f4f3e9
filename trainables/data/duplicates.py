"""`split_together`, which splits a data set so that identical images, and the images of a group, stay in one part."""

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
) -> tuple[npt.NDArray[np.str_], npt.NDArray[np.int64]]:
    """Return train, validation or test for each readable image, ``(N,) str``, and its group, ``(N,) int64``.

    Identical images are of one group, and the images of a group are in one part. Images that can only be trained on, see below, have the
    group -1.

    `readable`: the images' indices, ``(N,)``. `digests`: one for each image of `samples`; equal for identical pixels. Identical images
    with different labels go to train, with their groups. Appends sentences about repeated images to `notes`. Raises ``DataError`` for
    different labels if `strict`, for groups that the source gives to several parts, and as `split` does.
    """
    targets = samples.targets[readable]
    given = None if samples.splits is None else samples.splits[readable].copy()
    copies = _copies([digests[index] for index in readable])
    contradicting = [positions for positions in copies if len(np.unique(targets[positions], axis=0)) > 1]
    if contradicting:
        examples = listed(" = ".join(_with_labels(samples, readable[positions])) for positions in contradicting)
        if strict:
            raise DataError(
                f"{len(contradicting):,} images have several labels: {examples}; correct them, or leave out --strict to keep them in train"
            )
        notes.append(f"{len(contradicting):,} images have several labels and were kept in train only: {examples}")
    if given is not None:
        _check_groups(samples, readable, given)
        moved = [positions for positions in copies if len({part or "train" for part in given[positions].tolist()}) > 1]
        if moved:
            examples = listed(" = ".join(samples.names[index] for index in readable[positions]) for positions in moved)
            notes.append(f"{len(moved):,} images are in several of the given parts and were moved to train: {examples}")
    elif copies:
        notes.append(f"{len(copies):,} images occur more than once ({sum(map(len, copies)):,} files); copies stay in one part of the split")
    groups = _merge_groups(np.arange(len(readable)) if samples.groups is None else samples.groups[readable], copies)
    fixed = np.isin(groups, groups[[positions[0] for positions in contradicting]]) if contradicting else np.zeros(len(readable), bool)
    parts = np.full(len(readable), "train", dtype="<U10")
    if not fixed.all():
        free = ~fixed
        parts[free] = split(targets[free], samples.task, groups[free], None if given is None else given[free], seed)
    groups[fixed] = -1
    return parts, groups


def _copies(digests: Iterable[str]) -> list[npt.NDArray[np.int64]]:
    """Return an array of positions in `digests` for each set of two or more equal digests."""
    places: dict[str, list[int]] = {}
    for position, digest in enumerate(digests):
        places.setdefault(digest, []).append(position)
    return [np.array(positions, np.int64) for positions in places.values() if len(positions) > 1]


def _with_labels(samples: Samples, indices: npt.NDArray[np.int64]) -> list[str]:
    """Return a text 'name (label)' for each of the images, for a message."""

    def label(index: np.int64) -> str:
        target = samples.targets[index]
        if samples.task == "regression":
            return f"{target:g}"
        if samples.task == "multilabel":
            return "|".join(name for name, has in zip(samples.classes, target, strict=True) if has)
        return samples.classes[int(target)]

    return [f"{samples.names[index]} ({label(index)})" for index in indices]


def _check_groups(samples: Samples, readable: npt.NDArray[np.int64], given: npt.NDArray[np.str_]) -> None:
    """Raise ``DataError`` for groups with several parts in `given`, ``(N,)``: the part of each readable image, where '' means train."""
    if samples.groups is None:
        return
    pairs = {(group, part or "train") for group, part in zip(samples.groups[readable].tolist(), given.tolist(), strict=True)}
    torn = sorted(group for group, times in Counter(group for group, _ in pairs).items() if times > 1)
    if torn:
        raise DataError(
            f"{len(torn):,} groups are in several of the given parts: {listed(torn)}; correct the table, or ignore one column "
            "with --set data.group_column='' or --set data.split_column=''"
        )


def _merge_groups(groups: npt.NDArray[Any], copies: list[npt.NDArray[np.int64]]) -> npt.NDArray[np.int64]:
    """Return a group number for each image, ``(N,) int64``. Groups with identical images are merged (union-find).

    `groups`: each image's group, ``(N,)``. `copies`: positions of identical images, see `_copies`.
    """
    numbers = np.unique(groups, return_inverse=True)[1].astype(np.int64)
    parent = list(range(int(numbers.max()) + 1))

    def top(group: int) -> int:
        while parent[group] != group:
            parent[group] = group = parent[parent[group]]
        return group

    for positions in copies:
        for member in numbers[positions[1:]].tolist():
            parent[top(member)] = top(int(numbers[positions[0]]))
    return np.array([top(group) for group in range(len(parent))], np.int64)[numbers]
