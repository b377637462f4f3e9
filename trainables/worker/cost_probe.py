"""Measures the cost of one configuration, in time, memory and disk space, by running a few of its epochs."""

import gc
import math
import tempfile
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainables.recipe import steps_per_epoch
from trainables.worker.assignment import Assignment, open_data
from trainables.worker.failures import failure_kind
from trainables.worker.memory import peak_main_memory, peak_memory, reset_peak_memory

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from trainables.training.trainer import Trainer

WARMUP_STEPS, WARMUP_IMAGES = 2, 128
CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


class CostProbe:
    """The Ray actor that measures configurations, one after another in the same process."""

    def get_ready(self) -> None:
        """Import what a trial needs. The first measurement then starts at once."""
        import trainables.training.trainer  # noqa: F401

    def measure(self, assignment: dict[str, Any], epochs: int, seconds: float) -> dict[str, Any]:
        """Return what a configuration costs; see `measure_cost`."""
        return measure_cost(assignment, epochs, seconds)


def measure_cost(assignment: dict[str, Any], epochs: int = 1, seconds: float = math.inf) -> dict[str, Any]:
    """Build an assignment's trainer, run a few steps to warm up and then `epochs` epochs, and return what they cost.

    It takes about `seconds`: where the epochs would take longer, it runs each on a part of the images and scales the time up. The body
    trains from the first step, as it does for most of a trial. Returns ``seconds_to_build`` (the head's training before the first epoch
    included), ``seconds_per_epoch`` (list), ``seconds_to_save``, ``shared_seconds`` (for the activations that other trials can use then;
    building and epochs do not include them), ``share`` (of an epoch that was run), ``steps_per_epoch``,
    ``state_bytes``, ``weights_bytes``, ``memory_bytes`` (the most main memory that the process held, less what it shares with others),
    ``gpu_bytes`` (the most GPU memory), ``machine_bytes`` and ``machine_gpu_bytes`` (the machine's totals). Leaves no file behind.
    Activations that trials of this node have stored are not used. Of a configuration with folds the first fold is measured, and the
    others' time, memory and states are added in proportion.
    If the configuration fails for good (see `failure_kind`), returns only ``failure`` with its ``kind`` and ``message``.
    Raises errors that another attempt may avoid.
    """
    from trainables.data.folds import fold_datasets
    from trainables.storage.array_cache import ArrayCache
    from trainables.training.trainer import Trainer, set_threads

    job, started = Assignment.model_validate(assignment), time.perf_counter()
    trial = job.trial.model_copy(update={"freeze_steps": 0.0, "folds": 0})
    networks = max(1, job.trial.folds)
    set_threads(job.threads)
    reset_peak_memory()
    own_cache = tempfile.TemporaryDirectory(prefix="injerto-plan-")
    try:
        folds = fold_datasets(open_data(job), networks) if networks > 1 else [open_data(job)]
        trainer = Trainer(folds[0], trial, metric=job.metric, workers=job.workers, feature_cache=ArrayCache(Path(own_cache.name)))
        seconds_to_build = time.perf_counter() - started
        shared_seconds, seconds_for_the_head = _seconds_for_the_head(trainer)
        per_image = _seconds_per_stored_image(trainer)
        share, seconds_per_epoch = _run_epochs(trainer, epochs, started + seconds, per_image)
        seconds_to_save, state_bytes = _cost_of_saving(trainer, job)
        weights_bytes = sum(tensor.nbytes for tensor in trainer.network.state_dict().values())
        # A state holds what trains and the optimizer's numbers; in memory gradients take the place of what trains, which the weights count.
        others = (networks - 1) * (weights_bytes + state_bytes)
        memory, gpu = _memory_use(), trainer.device.type == "cuda"
        ratio = sum(steps_per_epoch(len(fold.rows["train"]), trial.batch_size) for fold in folds) / trainer.steps_per_epoch
        return {
            "seconds_to_build": networks * (seconds_to_build + seconds_for_the_head),
            "shared_seconds": shared_seconds + per_image * _stored_images(trainer),
            "seconds_per_epoch": [ratio * seconds for seconds in seconds_per_epoch],
            "share": share,
            "steps_per_epoch": trainer.steps_per_epoch,
            "weights_bytes": weights_bytes,
            "seconds_to_save": networks * seconds_to_save,
            "state_bytes": networks * state_bytes,
            **memory,
            "memory_bytes": memory["memory_bytes"] + (0 if gpu else others),
            "gpu_bytes": memory["gpu_bytes"] + (others if gpu else 0),
        }
    except Exception as error:
        kind = failure_kind(error)
        if kind is None:
            raise
        return {"failure": {"kind": kind, "message": str(error)}}
    finally:
        trainer = None  # type: ignore[assignment]
        gc.collect()
        own_cache.cleanup()


def _seconds_for_the_head(trainer: "Trainer") -> tuple[float, float]:
    """Return the seconds that the head takes before the first epoch, measured on a few images: what trials can share, and the rest."""
    from trainables.training.features.features import CHUNK

    if trainer.head_trained:
        return 0.0, 0.0
    whole, rows = trainer.dataset, _first(trainer, "train", CHUNK)
    scale = len(whole.rows["train"]) / len(rows)
    shared = scale * _seconds(lambda: trainer.evaluator.pooled_features(rows)) if trainer.features else 0.0
    trainer.dataset = replace(whole, rows=whole.rows | {"train": rows})
    own = scale * _seconds(trainer.start_head)
    trainer.dataset = whole
    return shared, own


def _seconds_per_stored_image(trainer: "Trainer") -> float:
    """Return the seconds to compute and store the activations of one view of one image; 0 for a trial that stores none."""
    from trainables.training.features.features import CHUNK

    if trainer.features is None:
        return 0.0
    rows, count = _first(trainer, "train", CHUNK), len(trainer.dataset.images)
    batches = partial(trainer.features.training, rows, epoch=1, passes=1, count=count)
    computed, read = (_seconds(lambda: deque(batches(), maxlen=0)) for _ in range(2))
    return max(0.0, computed - read) / len(rows)


def _stored_images(trainer: "Trainer") -> int:
    """Return of how many images a trial stores activations; an image counts once for each of its views."""
    trial, rows = trainer.trial, trainer.dataset.rows
    views = min(trial.views, trial.epochs * trainer.passes) if trial.augmentation_strength and trial.augmentation_ops else 1
    return views * len(rows["train"]) + (1 + trial.flip_average) * len(rows["validation"])


def _run_epochs(trainer: "Trainer", epochs: int, deadline: float, seconds_per_stored_image: float) -> tuple[float, list[float]]:
    """Run at most `epochs` epochs, at least one, and none after the `deadline` (of `time.perf_counter`).

    A trial that stores activations runs one more before these, which is not measured. Returns the share of an epoch's images that each of
    them used, and for each the seconds that an epoch on all images takes.
    """
    rows = trainer.dataset.rows
    warmup = _subset(trainer, WARMUP_STEPS * trainer.trial.batch_size, WARMUP_IMAGES)
    estimate = [_seconds_per_epoch(trainer, *warmup) for _ in range(2)][-1]
    unmeasured = 1 if trainer.features else 0
    storing = seconds_per_stored_image * (trainer.passes * len(rows["train"]) + 2 * len(rows["validation"]))
    share = min(1.0, max(0.0, deadline - time.perf_counter()) / ((epochs + unmeasured) * estimate + storing))
    part = _subset(trainer, *(math.ceil(share * len(rows[name])) for name in ("train", "validation")))
    for _ in range(unmeasured):
        _seconds_per_epoch(trainer, *part)
    measured: list[float] = []
    for _ in range(epochs):
        measured.append(_seconds_per_epoch(trainer, *part))
        if time.perf_counter() > deadline:
            break
    return share, measured


def _subset(trainer: "Trainer", train: int, validation: int) -> "tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]":
    """Return the rows of the first `train` training images and of the first `validation` validation images.

    There is at least one batch of training images and one validation image.
    """
    return _first(trainer, "train", max(train, trainer.trial.batch_size)), _first(trainer, "validation", max(validation, 1))


def _first(trainer: "Trainer", part: str, count: int) -> "npt.NDArray[np.int64]":
    """Return the lowest `count` rows of a part of the data set: activations of neighbours are stored together."""
    rows = trainer.dataset.rows[part].copy()
    rows.sort()
    return rows[:count]


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _seconds_per_epoch(trainer: "Trainer", train: "npt.NDArray[np.int64]", validation: "npt.NDArray[np.int64]") -> float:
    """Run an epoch on these training and validation rows, and return the seconds that an epoch on all images takes."""
    from trainables.training.evaluation.evaluator import IMAGES_FOR_STATISTICS

    whole = trainer.dataset
    trainer.dataset = replace(whole, rows=whole.rows | {"train": train, "validation": validation})
    row = trainer.run_epoch()
    trainer.dataset = whole
    trainer.epoch = 0
    steps = trainer.passes * (len(train) // trainer.trial.batch_size)
    evaluated = len(validation) + min(len(train), IMAGES_FOR_STATISTICS)
    to_evaluate = len(whole.rows["validation"]) + min(len(whole.rows["train"]), IMAGES_FOR_STATISTICS)
    return row["seconds_training"] * trainer.steps_per_epoch / steps + row["seconds_evaluation"] * to_evaluate / evaluated


def _cost_of_saving(trainer: "Trainer", job: Assignment) -> tuple[float, int]:
    """Save the trainer's state to a temporary folder; return the seconds that it takes, and the bytes of the file.

    The folder is on the disk of the trial's own folder where that can be written, and is removed at the end.
    """
    from trainables.training.checkpoint import save_state

    folder = Path(job.folder)
    existing = next((str(path) for path in (folder, *folder.parents) if path.is_dir()), None) if folder.is_absolute() else None
    try:
        temporary = tempfile.TemporaryDirectory(dir=existing, prefix=".injerto-plan-")
    except OSError:
        temporary = tempfile.TemporaryDirectory(prefix="injerto-plan-")
    with temporary as name:
        file, started = Path(name) / "state.pt", time.perf_counter()
        save_state(file, {**trainer.state(), "seconds": 0.0})
        return time.perf_counter() - started, file.stat().st_size


def _memory_use() -> dict[str, int]:
    import psutil
    import torch

    gpu = torch.cuda.is_available()
    shared = getattr(psutil.Process().memory_info(), "shared", 0)
    return {
        "memory_bytes": max(0, peak_main_memory() - shared),
        "gpu_bytes": peak_memory() if gpu else 0,
        "machine_bytes": min([psutil.virtual_memory().total, *_container_limits()]),
        "machine_gpu_bytes": torch.cuda.get_device_properties(0).total_memory if gpu else 0,
    }


def _container_limits() -> list[int]:
    """Return the limits in bytes that the container of this process sets on main memory; an empty list if there are none."""
    limits = []
    for path in CGROUP_LIMITS:
        with suppress(OSError, ValueError):
            limits.append(int(Path(path).read_text()))
    return limits
