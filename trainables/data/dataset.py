"""A labelled image set made ready for trials: pixels in the node's cache, parts, and a fingerprint that names it."""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from trainables.config import Aspect, TaskName
from trainables.data.duplicates import split_together
from trainables.data.samples import Samples, listed
from trainables.data.sources import read_source
from trainables.data.splits import PARTS
from trainables.errors import DataError
from trainables.images.decode import LFS_POINTER
from trainables.images.pixel_map import Contents, PixelMap, Survey, image_size_rule, map_pixels, open_pixels, pixels_key, survey
from trainables.storage.cache import cache_root, read_json, write_json
from trainables.thread_map import Progress

FEWEST = 8
DTYPES: dict[str, type[np.generic]] = {"regression": np.float64, "binary": np.int64, "multiclass": np.int64, "multilabel": np.float32}


@dataclass(frozen=True)
class Origin:
    """Where the image files are, and what they hold: enough to make the same pixels on another machine."""

    location: str  # a folder, a bucket's URL or a built-in set
    paths: tuple[str, ...]  # of each image in it
    contents: Contents
    digests: tuple[str, ...]  # of the decoded pixels, as in `PixelMap`


@dataclass(frozen=True)
class Dataset:
    """Everything that a trial reads."""

    fingerprint: str  # of contents, labels and parts
    task: TaskName
    classes: tuple[str, ...]  # class or label names; for regression the target's name
    images: npt.NDArray[np.uint8]  # (N, S, S, 3) RGB, a read-only memory map, S = 8/7 image_size
    rows: dict[str, npt.NDArray[np.int64]]  # train, validation, test -> indices of images; unreadable ones are in none
    targets: npt.NDArray[Any]  # (N,) int64 binary, multiclass; (N, K) float32 multilabel; (N,) float64 regression
    names: tuple[str, ...]
    image_size: int  # side that the network sees, pixels
    aspect: Aspect
    pixels_key: str
    bits: int  # that 16-bit images use: decode(path, bits) reads new ones alike
    median_side: int  # of the shorter sides of the original images, pixels
    notes: tuple[str, ...]  # sentences to say aloud
    origin: Origin | None = None  # known where the data set was prepared, not where it was opened only


def prepare(
    *,
    source: str,
    task: TaskName | None = None,
    image_column: str | None = None,
    label_columns: Sequence[str] = (),
    header: bool = True,
    extension: str = "",
    strip_prefix: str = "",
    image_folder: str | None = None,
    split_column: str = "split",
    group_column: str = "group",
    classes: Sequence[str] = (),
    seed: int = 0,
    strict: bool = False,
    weights: str = "builtin",
    image_size: int | None = None,
    aspect: Aspect = "crop",
    budget_bytes: int | None = None,
    progress: Progress | None = None,
) -> Dataset:
    """Return a source as a data set, its images decoded into this node's cache unless they are there already.

    Raises ``DataError`` if it cannot be used, ``ResourceError`` if it does not fit the disk, ``StorageError`` where a bucket refuses.
    """
    samples = read_source(
        source,
        task=task,
        image_column=image_column,
        label_columns=label_columns,
        header=header,
        extension=extension,
        strip_prefix=strip_prefix,
        image_folder=image_folder,
        split_column=split_column,
        group_column=group_column,
        classes=classes,
        progress=progress,
    )
    location, paths = samples.located()
    found = survey(samples.paths, progress=progress)
    _refuse_unreadable(samples, found.problems, strict=strict)
    size = image_size or image_size_rule(found, weights)
    pixels = map_pixels(samples.paths, found, image_size=size, aspect=aspect, budget_bytes=budget_bytes, progress=progress)
    _refuse_unreadable(samples, pixels.problems, strict=strict)
    readable = np.array([index for index in range(len(samples.names)) if index not in pixels.problems], np.int64)
    _check_counts(samples, readable)
    notes = list(samples.notes)
    if pixels.problems:
        notes.append(f"left out {_reasons(samples, pixels.problems)}")
    parts = split_together(samples, readable, pixels.digests, seed=seed, strict=strict, notes=notes)
    rows = {part: readable[parts == part] for part in PARTS}
    _check_parts(samples, rows, notes)
    fingerprint = _fingerprint(samples, found, rows)
    facts = {
        "task": samples.task,
        "classes": samples.classes,
        "names": samples.names,
        "targets": samples.targets.tolist(),
        "rows": {part: indices.tolist() for part, indices in rows.items()},
        "survey_key": found.key,
        "bits": found.bits,
        "median_side": found.median_side,
        "notes": notes,
    }
    origin = Origin(location, paths, Contents(found.hashes, found.lengths, found.bits, pixels.problems), pixels.digests)
    return settle(fingerprint, facts, pixels, size, aspect, origin)


def settle(fingerprint: str, facts: dict[str, Any], pixels: PixelMap, image_size: int, aspect: Aspect, origin: Origin) -> Dataset:
    """Return a data set whose pixels are in this node's cache, and let `open_dataset` find it there."""
    write_json(_facts_file(fingerprint), facts)
    return _dataset(fingerprint, facts, pixels, image_size, aspect, origin)


def open_dataset(fingerprint: str, image_size: int, aspect: Aspect) -> Dataset:
    """Return a prepared data set from this node's cache alone; raises ``DataError`` if it is not there."""
    facts = read_json(_facts_file(fingerprint))
    if facts is None:
        raise DataError(f"the data set {fingerprint} is not in {cache_root()}; prepare it on this machine first")
    pixels = open_pixels(pixels_key(facts["survey_key"], facts["bits"], image_size, aspect))
    return _dataset(fingerprint, facts, pixels, image_size, aspect)


def _facts_file(fingerprint: str) -> Path:
    return cache_root() / "datasets" / fingerprint / "manifest.json"


def _dataset(
    fingerprint: str, facts: dict[str, Any], pixels: PixelMap, image_size: int, aspect: Aspect, origin: Origin | None = None
) -> Dataset:
    return Dataset(
        fingerprint=fingerprint,
        task=facts["task"],
        classes=tuple(facts["classes"]),
        images=pixels.images,
        rows={part: np.array(indices, np.int64) for part, indices in facts["rows"].items()},
        targets=np.array(facts["targets"], DTYPES[facts["task"]]),
        names=tuple(facts["names"]),
        image_size=image_size,
        aspect=aspect,
        pixels_key=pixels.key,
        bits=facts["bits"],
        median_side=facts["median_side"],
        notes=tuple(facts["notes"]),
        origin=origin,
    )


def _refuse_unreadable(samples: Samples, problems: dict[int, str], *, strict: bool) -> None:
    if not problems:
        return
    count, total = len(problems), len(samples.names)
    pointers = sum(reason == LFS_POINTER for reason in problems.values())
    if count == total and pointers == total:
        raise DataError(f"all {total:,} files in {samples.place} are Git LFS pointers, not images; run `git lfs pull` in that repository")
    if count == total:
        raise DataError(f"no image in {samples.place} can be read: {_reasons(samples, problems)}")
    if strict:
        raise DataError(f"{_reasons(samples, problems)}; mend or remove them, or leave out --strict to go on without them")


def _reasons(samples: Samples, problems: dict[int, str]) -> str:
    shown = listed((f"{samples.names[index]} ({reason})" for index, reason in sorted(problems.items())), len(problems))
    pull = "; `git lfs pull` fetches the real files" if LFS_POINTER in problems.values() else ""
    return f"{len(problems):,} of {len(samples.names):,} images that cannot be read: {shown}{pull}"


def _check_counts(samples: Samples, readable: npt.NDArray[np.int64]) -> None:
    if samples.task in ("binary", "multiclass"):
        counts = np.bincount(samples.targets[readable], minlength=len(samples.classes))
        for few, words in ((0, "no image that can be read"), (1, "one image only, and needs two")):
            if names := [name for name, count in zip(samples.classes, counts, strict=True) if count == few]:
                raise DataError(
                    f"{'classes have' if len(names) > 1 else 'a class has'} {words}: {listed(names)}; add images or remove the class"
                )
    if len(readable) < FEWEST:
        raise DataError(f"{len(readable)} images are too few to train, validate and test on; at least {FEWEST} are needed")
    targets = samples.targets[readable]
    if samples.task == "regression" and (targets == targets[0]).all():
        raise DataError(f"every image has the same {samples.classes[0]!r} ({targets[0]:g}); there is nothing to learn")


def _check_parts(samples: Samples, rows: dict[str, npt.NDArray[np.int64]], notes: list[str]) -> None:
    if empty := [part for part in PARTS if not len(rows[part])]:
        raise DataError(f"no image is left for {' and '.join(empty)}: there are too few images, or too few groups of them")
    if samples.task in ("binary", "multiclass"):
        for part in PARTS:
            counts = np.bincount(samples.targets[rows[part]], minlength=len(samples.classes))
            if missing := [name for name, count in zip(samples.classes, counts, strict=True) if not count]:
                if part == "train":
                    raise DataError(f"no training image of {listed(missing)}: the given split has them in validation or test only")
                notes.append(f"{part} has no image of {listed(missing)}")
    if samples.task == "multilabel":
        positives = samples.targets[rows["train"]].sum(axis=0)
        if never := [name for name, count in zip(samples.classes, positives, strict=True) if not count]:
            notes.append(f"no training image has {listed(never)}")
    counts_text = ", ".join(f"{len(rows[part]):,} {part}" for part in PARTS)
    notes.append(f"{sum(len(indices) for indices in rows.values()):,} images: {counts_text}")


def _fingerprint(samples: Samples, found: Survey, rows: dict[str, npt.NDArray[np.int64]]) -> str:
    side = np.full(len(samples.names), -1, np.int64)
    for position, part in enumerate(PARTS):
        side[rows[part]] = position
    name = blake2b(digest_size=8)
    for piece in (samples.task, *samples.classes, found.key):
        name.update(piece.encode(errors="surrogateescape") + b"\0")
    name.update(np.ascontiguousarray(samples.targets).tobytes())
    name.update(side.tobytes())
    return name.hexdigest()
