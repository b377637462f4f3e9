"""The data sets of a cross-validation, made from the training and validation images of one."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from trainables.data.dataset import Dataset
from trainables.data.samples import listed
from trainables.data.splits import split_into_folds
from trainables.errors import DataError

SEED = 0
"""All trials have the same folds, so that their metrics differ by the configurations only."""
ONLY_TRAINED = -1


def fold_datasets(dataset: Dataset, folds: int) -> list[Dataset]:
    """Return one data set for each fold: the fold is its validation images, and the other folds are its training images.

    The folds divide the training and the validation images; each group is in one fold. Images with contradicting labels are training
    images of every fold. The test images and the fingerprint stay.
    Raises ``DataError`` where a fold would be empty or leave no training image of a class.
    """
    together = np.sort(np.concatenate([dataset.rows["train"], dataset.rows["validation"]]))
    groups = dataset.groups[together]
    fold = np.full(len(together), ONLY_TRAINED)
    free = groups >= 0
    if free.any():
        fold[free] = split_into_folds(dataset.targets[together[free]], dataset.task, groups[free], folds, SEED)
    parts = [{"train": together[fold != number], "validation": together[fold == number]} for number in range(folds)]
    _check(dataset, parts)
    return [replace(dataset, rows=dataset.rows | part) for part in parts]


def training_images(dataset: Dataset, folds: int) -> int:
    """Return the fewest images that a network of a trial with so many folds is trained on. Raises as `fold_datasets` does."""
    return min(len(part.rows["train"]) for part in (fold_datasets(dataset, folds) if folds > 1 else [dataset]))


def _check(dataset: Dataset, parts: list[dict[str, npt.NDArray[np.int64]]]) -> None:
    folds, images = len(parts), len(parts[0]["train"]) + len(parts[0]["validation"])
    remedy = "choose fewer folds, leave folds out, or add images"
    if empty := sum(not len(part["validation"]) for part in parts):
        which = f"the {images} training and validation images are too few, or of too few groups"
        raise DataError(f"{empty} of {folds} folds would have no image: {which}; {remedy}")
    if dataset.task not in ("binary", "multiclass"):
        return
    for part in parts:
        counts = np.bincount(dataset.targets[part["train"]], minlength=len(dataset.classes))
        if missing := [name for name, count in zip(dataset.classes, counts, strict=True) if not count]:
            raise DataError(f"a fold would hold every image of {listed(missing)}, and its network could not learn it; {remedy}")
