"""Measures the cost of one configuration, in time, memory and disk space, by running a few of its epochs."""

import gc
import math
import tempfile
import time
from contextlib import suppress
from dataclasses import replace
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
    included), ``seconds_per_epoch`` (list), ``seconds_to_save``, ``share`` (of an epoch that was run), ``steps_per_epoch``,
    ``state_bytes``, ``weights_bytes``, ``memory_bytes`` (the most main memory that the process held, less what it shares with others),
    ``gpu_bytes`` (the most GPU memory), ``machine_bytes`` and ``machine_gpu_bytes`` (the machine's totals). Leaves no file behind.
    Stored activations are not used: it is the cost of a trial whose frozen stages no other trial has run. Of a configuration with folds
    the first fold is measured, and the others' time, memory and states are added in proportion.
    If the configuration fails for good (see `failure_kind`), returns only ``failure`` with its ``kind`` and ``message``.
    Raises errors that another attempt may avoid.
    """
    from trainables.data.folds import fold_datasets
    from trainables.training.trainer import Trainer, set_threads

    job, started = Assignment.model_validate(assignment), time.perf_counter()
    trial = job.trial.model_copy(update={"freeze_steps": 0.0, "folds": 0, "views": 0})
    networks = max(1, job.trial.folds)
    set_threads(job.threads)
    reset_peak_memory()
    try:
        folds = fold_datasets(open_data(job), networks) if networks > 1 else [open_data(job)]
        trainer = Trainer(folds[0], trial, metric=job.metric, workers=job.workers)
        seconds_to_build = time.perf_counter() - started + _seconds_for_the_head(trainer)
        share, seconds_per_epoch = _run_epochs(trainer, epochs, started + seconds)
        seconds_to_save, state_bytes = _cost_of_saving(trainer, job)
        weights_bytes = sum(tensor.nbytes for tensor in trainer.network.state_dict().values())
        # A state holds what trains and the optimizer's numbers; in memory gradients take the place of what trains, which the weights count.
        others = (networks - 1) * (weights_bytes + state_bytes)
        memory, gpu = _memory_use(), trainer.device.type == "cuda"
        ratio = sum(steps_per_epoch(len(fold.rows["train"]), trial.batch_size) for fold in folds) / trainer.steps_per_epoch
        return {
            "seconds_to_build": networks * seconds_to_build,
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


def _seconds_for_the_head(trainer: "Trainer") -> float:
    """Train the head on the features of a few images, and return the seconds that it takes on all of them, before the first epoch."""
    whole = trainer.dataset
    train, _ = _subset(trainer, WARMUP_IMAGES, 1)
    trainer.dataset, started = replace(whole, rows=whole.rows | {"train": train}), time.perf_counter()
    trainer.start_head()
    trainer.dataset = whole
    return (time.perf_counter() - started) * len(whole.rows["train"]) / len(train)


def _run_epochs(trainer: "Trainer", epochs: int, deadline: float) -> tuple[float, list[float]]:
    """Run at most `epochs` epochs, at least one, and none after the `deadline` (of `time.perf_counter`).

    Returns the share of an epoch's images that each of them used, and for each the seconds that an epoch on all images takes.
    """
    rows = trainer.dataset.rows
    warmup = _subset(trainer, WARMUP_STEPS * trainer.trial.batch_size, WARMUP_IMAGES)
    estimate = [_seconds_per_epoch(trainer, *warmup) for _ in range(2)][-1]
    share = min(1.0, max(0.0, deadline - time.perf_counter()) / (epochs * estimate))
    sizes = [math.ceil(share * len(rows[name])) for name in ("train", "validation")]
    measured: list[float] = []
    for _ in range(epochs):
        measured.append(_seconds_per_epoch(trainer, *_subset(trainer, *sizes)))
        if time.perf_counter() > deadline:
            break
    return share, measured


def _subset(trainer: "Trainer", train: int, validation: int) -> "tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]":
    """Return the rows of the first `train` training images and of the first `validation` validation images.

    There is at least one batch of training images and one validation image.
    """
    rows = trainer.dataset.rows
    return rows["train"][: max(train, trainer.trial.batch_size)], rows["validation"][: max(validation, 1)]


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
