"""`Dataset`, a data set ready for trials, and the functions that make it from a source or open it from this node's cache."""

from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from trainables.config import Aspect, DataConfig, TaskName
from trainables.data.duplicates import split_together
from trainables.data.samples import Samples, listed
from trainables.data.source_options import DEFAULT, SourceOptions
from trainables.data.sources import read_source
from trainables.data.splits import PARTS
from trainables.errors import DataError
from trainables.images.decode import DECODER_VERSION, LFS_POINTER, decoder_differences
from trainables.images.file_survey import FileContents, FileSurvey, content_key, image_size_rule, survey_files
from trainables.images.pixel_map import PixelMap, map_pixels, open_pixels, pixels_key
from trainables.storage.cache import cache_root, read_json, write_json
from trainables.storage.secrets import redact
from trainables.thread_map import OnProgress

FEWEST = 8
CONTENT_DIGITS = 16  # of a fingerprint; `DECODER_DIGITS` come after them
DECODER_DIGITS = content_key(DECODER_VERSION)[:8]
DTYPES: dict[str, type[np.generic]] = {"regression": np.float64, "binary": np.int64, "multiclass": np.int64, "multilabel": np.float32}
"""Task → dtype of the targets."""


@dataclass(frozen=True)
class Origin:
    """Where the image files are and what they hold: enough to make the same pixels on another machine."""

    location: str  # a folder, a bucket's URL or a built-in set
    paths: tuple[str, ...]  # of each image, relative to the location; absolute if outside of it
    contents: FileContents
    digests: tuple[str, ...]  # of the decoded pixels, as in `PixelMap`


@dataclass(frozen=True)
class Dataset:
    """A data set ready for trials: decoded images, targets, and the images of each part. N images, K labels."""

    fingerprint: str  # hash of task, classes, file contents, targets, parts and groups, then one of the version of the decoder
    task: TaskName
    classes: tuple[str, ...]  # class or label names; for regression the target's name
    images: npt.NDArray[np.uint8]  # (N, S, S, 3) RGB, a read-only memory map, S = 8/7 image_size
    rows: dict[str, npt.NDArray[np.int64]]  # train, validation, test -> indices of images; unreadable ones are in none
    targets: npt.NDArray[Any]  # (N,) int64 binary, multiclass; (N, K) float32 multilabel; (N,) float64 regression
    groups: npt.NDArray[np.int64]  # (N,) images with the same number stay together in every split; -1: only for training, or unreadable
    names: tuple[str, ...]
    image_size: int  # side that the network sees, pixels
    aspect: Aspect
    pixels_key: str  # of the decoded images in the cache
    bits: int  # that 16-bit images use: `decode(path, bits)` decodes new images in the same way
    median_side: int  # of the shorter sides of the original images, pixels
    notes: tuple[str, ...]  # sentences for the user
    origin: Origin | None = None  # None where the data set was opened from the cache


def with_validation_in_training(dataset: Dataset) -> Dataset:
    """Return a data set whose training images are its training and its validation images; they stay validation images, too.

    So its validation metrics say nothing about new images. The fingerprint is unchanged.
    """
    together = np.sort(np.concatenate([dataset.rows["train"], dataset.rows["validation"]]))
    return replace(dataset, rows=dataset.rows | {"train": together})


def prepare_from_config(
    data: DataConfig,
    *,
    gpu: bool = False,
    image_size: int | None = None,
    aspect: Aspect = "crop",
    on_progress: OnProgress | None = None,
) -> Dataset:
    """Return the data set of the source that a configuration names, see `prepare`. Raises as `prepare` does."""
    options = SourceOptions(**data.model_dump(exclude={"source", "seed", "strict"}))
    return prepare(
        data.source,
        options,
        seed=data.seed,
        strict=data.strict,
        gpu=gpu,
        image_size=image_size,
        aspect=aspect,
        on_progress=on_progress,
    )


def prepare(
    source: str,
    options: SourceOptions = DEFAULT,
    *,
    seed: int = 0,
    strict: bool = False,
    gpu: bool = False,
    image_size: int | None = None,
    aspect: Aspect = "crop",
    budget_bytes: int | None = None,
    on_progress: OnProgress | None = None,
) -> Dataset:
    """Return the data set of a source. Its images are decoded into this node's cache unless they are there already.

    `seed` is the seed of the split. Without `image_size` (pixels), `image_size_rule` chooses it, for training on a `gpu` or not.
    With `strict`, unreadable images, and identical images with different labels, are errors. `budget_bytes` limits this node's folder of
    decoded images. Raises ``DataError`` if the source cannot be used, ``ResourceError`` if the images do not fit the disk or
    `budget_bytes`, and ``StorageError`` if a bucket cannot be read.
    """
    samples = read_source(source, options, on_progress)
    location, paths = samples.file_locations()
    survey = survey_files(samples.paths, on_progress=on_progress)
    _check_readable(samples, survey.problems, strict=strict)
    size = image_size or image_size_rule(survey, gpu=gpu)
    pixels = map_pixels(samples.paths, survey, image_size=size, aspect=aspect, budget_bytes=budget_bytes, on_progress=on_progress)
    _check_readable(samples, pixels.problems, strict=strict)
    rows, groups, notes = _split(samples, pixels, seed=seed, strict=strict)
    notes.extend(_deep_notes(survey))
    dataset = Dataset(
        fingerprint=_fingerprint(samples, survey, rows, groups),
        task=samples.task,
        classes=samples.classes,
        images=pixels.images,
        rows=rows,
        targets=samples.targets.astype(DTYPES[samples.task], copy=False),
        groups=groups,
        names=samples.names,
        image_size=size,
        aspect=aspect,
        pixels_key=pixels.key,
        bits=survey.bits,
        median_side=survey.median_side,
        notes=tuple(notes),
        origin=Origin(location, paths, FileContents(survey.hashes, survey.lengths, survey.bits, pixels.problems), pixels.digests),
    )
    return publish(dataset, facts_of(dataset, survey.key))


def publish(dataset: Dataset, facts: dict[str, Any]) -> Dataset:
    """Write a data set's `facts_of` into this node's cache, where `open_dataset` finds them, and return `dataset` itself.

    Raises ``ResourceError`` if the disk is full or the cache cannot be written.
    """
    write_json(_facts_file(dataset.fingerprint), facts)
    return dataset


def open_dataset(fingerprint: str, image_size: int, aspect: Aspect) -> Dataset:
    """Return a prepared data set from this node's cache.

    Raises ``DataError`` if its facts or its pixels of this size are not there, or if another version of the decoder made it.
    """
    if fingerprint[CONTENT_DIGITS:] != DECODER_DIGITS:
        raise DataError(f"the data set {fingerprint} was decoded by another version of the decoder, Pillow or OpenCV; prepare it again")
    facts = read_json(_facts_file(fingerprint))
    if facts is None:
        raise DataError(f"the data set {fingerprint} is not in {cache_root()}; prepare it on this machine first")
    pixels = open_pixels(pixels_key(facts["survey_key"], facts["bits"], image_size, aspect))
    return dataset_from(fingerprint, facts, pixels, image_size, aspect)


def difference(dataset: Dataset, fingerprint: str, source: str, since: str, decoder: str = "") -> str:
    """Return what differs between a data set and the recorded `fingerprint`, for a message that ends with what to do; '' if nothing.

    `source` names the data set, `since` is when the fingerprint was made, and `decoder` the `DECODER_VERSION` of that time, if known.
    """
    if dataset.fingerprint == fingerprint:
        return ""
    decoders = decoder_differences(decoder)
    if decoders or dataset.fingerprint[:CONTENT_DIGITS] == fingerprint[:CONTENT_DIGITS]:
        details = ", ".join(decoders) or "the decoder, Pillow or OpenCV has another version"
        return f"the images of {redact(source)!r} may be decoded to other pixels than when {since}: {details}"
    then, now = fingerprint[:12], dataset.fingerprint[:12]
    return f"the images or labels of {redact(source)!r} have changed since {since} (fingerprint {then} then, {now} now)"


def facts_of(dataset: Dataset, survey_key: str) -> dict[str, Any]:
    """Return what `dataset_from` needs beside the pixels, as values for JSON. `survey_key`: `FileContents.key` of the image files."""
    return {
        "task": dataset.task,
        "classes": dataset.classes,
        "names": dataset.names,
        "targets": dataset.targets.tolist(),
        "groups": dataset.groups.tolist(),
        "rows": {part: rows.tolist() for part, rows in dataset.rows.items()},
        "survey_key": survey_key,
        "bits": dataset.bits,
        "median_side": dataset.median_side,
        "notes": dataset.notes,
    }


def dataset_from(
    fingerprint: str, facts: dict[str, Any], pixels: PixelMap, image_size: int, aspect: Aspect, origin: Origin | None = None
) -> Dataset:
    """Return the data set with these facts (see `facts_of`) and decoded images; writes nothing.

    Facts of earlier versions have no groups; then each image is a group of its own, because else the fingerprint would be another.
    """
    return Dataset(
        fingerprint=fingerprint,
        task=facts["task"],
        classes=tuple(facts["classes"]),
        images=pixels.images,
        rows={part: np.array(indices, np.int64) for part, indices in facts["rows"].items()},
        targets=np.array(facts["targets"], DTYPES[facts["task"]]),
        groups=np.array(facts.get("groups", range(len(facts["names"]))), np.int64),
        names=tuple(facts["names"]),
        image_size=image_size,
        aspect=aspect,
        pixels_key=pixels.key,
        bits=facts["bits"],
        median_side=facts["median_side"],
        notes=tuple(facts["notes"]),
        origin=origin,
    )


def _facts_file(fingerprint: str) -> Path:
    return cache_root() / "datasets" / fingerprint / "manifest.json"


def _deep_notes(survey: FileSurvey) -> list[str]:
    if not survey.deep:
        return []
    scale = f"0 to {2**survey.bits - 1:,} becomes 0 to 255" + (", and larger values 255" if survey.bits < 16 else "")
    return [f"16-bit images ({survey.deep:,} of {len(survey.hashes):,}) use {survey.bits} bits: {scale}"]


def _check_readable(samples: Samples, problems: dict[int, str], *, strict: bool) -> None:
    """Raise ``DataError`` if no image can be read, or if `strict` and one cannot be read. `problems`: index → reason."""
    if not problems:
        return
    count, total = len(problems), len(samples.names)
    pointers = sum(reason == LFS_POINTER for reason in problems.values())
    if count == total and pointers == total:
        raise DataError(
            f"all {total:,} files in {samples.display_name} are Git LFS pointers, not images; run `git lfs pull` in that repository"
        )
    if count == total:
        raise DataError(f"no image in {samples.display_name} can be read: {_reasons(samples, problems)}")
    if strict:
        raise DataError(f"{_reasons(samples, problems)}; repair or remove them, or leave out --strict to go on without them")


def _reasons(samples: Samples, problems: dict[int, str]) -> str:
    examples = listed((f"{samples.names[index]} ({reason})" for index, reason in sorted(problems.items())), len(problems))
    pull = "; `git lfs pull` fetches the real files" if LFS_POINTER in problems.values() else ""
    return f"{len(problems):,} of {len(samples.names):,} images that cannot be read: {examples}{pull}"


def _split(
    samples: Samples, pixels: PixelMap, *, seed: int, strict: bool
) -> tuple[dict[str, npt.NDArray[np.int64]], npt.NDArray[np.int64], list[str]]:
    """Return part → indices of its images, each image's group, and the notes for the user.

    Raises ``DataError`` where a part or a class lacks images.
    """
    readable = np.array([index for index in range(len(samples.names)) if index not in pixels.problems], np.int64)
    _check_counts(samples, readable)
    notes = list(samples.notes)
    if pixels.problems:
        notes.append(f"left out {_reasons(samples, pixels.problems)}")
    parts, own_groups = split_together(samples, readable, pixels.digests, seed=seed, strict=strict, notes=notes)
    together = len(np.unique(own_groups)) < len(own_groups)
    groups = np.full(len(samples.names), -1, np.int64)
    groups[readable] = own_groups if together else readable
    rows = {part: readable[parts == part] for part in PARTS}
    _check_parts(samples, rows, notes)
    return rows, groups, notes


def _check_counts(samples: Samples, readable: npt.NDArray[np.int64]) -> None:
    """Raise ``DataError`` for fewer than `FEWEST` readable images, for a class with fewer than two, and if all targets are equal."""
    if samples.task in ("binary", "multiclass"):
        counts = np.bincount(samples.targets[readable], minlength=len(samples.classes))
        for few, what in ((0, "no image that can be read"), (1, "one image only, and needs two")):
            if names := [name for name, count in zip(samples.classes, counts, strict=True) if count == few]:
                raise DataError(
                    f"{'classes have' if len(names) > 1 else 'a class has'} {what}: {listed(names)}; add images or remove the class"
                )
    if len(readable) < FEWEST:
        raise DataError(f"{len(readable)} images are too few to train, validate and test on; at least {FEWEST} are needed")
    targets = samples.targets[readable]
    if samples.task == "regression" and (targets == targets[0]).all():
        raise DataError(f"every image has the same {samples.classes[0]!r} ({targets[0]:g}); there is nothing to learn")


def _check_parts(samples: Samples, rows: dict[str, npt.NDArray[np.int64]], notes: list[str]) -> None:
    """Raise ``DataError`` for an empty part, or a class without training images.

    Appends to `notes` which classes other parts lack, which labels no training image has, and the sizes of the parts.
    """
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


def _fingerprint(samples: Samples, survey: FileSurvey, rows: dict[str, npt.NDArray[np.int64]], groups: npt.NDArray[np.int64]) -> str:
    part_numbers = np.full(len(samples.names), -1, np.int64)
    for position, part in enumerate(PARTS):
        part_numbers[rows[part]] = position
    digest = blake2b(digest_size=CONTENT_DIGITS // 2)
    for piece in (samples.task, *samples.classes, survey.key):
        digest.update(piece.encode(errors="surrogateescape") + b"\0")
    digest.update(np.ascontiguousarray(samples.targets).tobytes())
    digest.update(part_numbers.tobytes())
    readable = np.flatnonzero(part_numbers >= 0)
    if not np.array_equal(groups[readable], readable):  # else each image is a group of its own, as in facts of earlier versions
        digest.update(groups.tobytes())
    return digest.hexdigest() + DECODER_DIGITS
