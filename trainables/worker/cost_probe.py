"""How long one configuration takes and how much room it needs, from a few of its epochs."""

import gc
import math
import resource
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainables.worker.trainable import Assignment, failure_kind, open_data, peak_memory, reset_peak_memory

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from trainables.training.trainer import Trainer

WARMUP_STEPS, WARMUP_IMAGES = 2, 128
CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


class Meter:
    """What a worker runs, to measure one configuration after another."""

    def get_ready(self) -> None:
        """Import what a trial needs."""
        import trainables.training.trainer  # noqa: F401

    def measure(self, assignment: dict[str, Any], epochs: int, seconds: float) -> dict[str, Any]:
        """Measure one configuration."""
        return measure(assignment, epochs, seconds)


def measure(assignment: dict[str, Any], epochs: int = 1, seconds: float = math.inf) -> dict[str, Any]:
    """Build an assignment's trainer, run a few steps to warm up, then `epochs` epochs, and return what they took.

    About `seconds` are spent on it: where an epoch is longer, a part of it is run and scaled up. The body is thawed from the first
    step, as it is for most of a trial. Returns ``seconds_to_build``, ``seconds_per_epoch`` (list), ``seconds_to_save``, ``share`` (of
    an epoch that was run), ``steps_per_epoch``, ``state_bytes``, ``weights_bytes``, ``memory_bytes`` and ``gpu_bytes`` (the most that
    the process held, what it shares with others left out), ``machine_bytes`` and ``machine_gpu_bytes`` (what there is); or, where the
    configuration fails, ``failure`` with its kind and message. Leaves nothing behind. Raises what another try may mend.
    """
    from trainables.training.trainer import Trainer, set_threads

    job, started = Assignment.model_validate(assignment), time.perf_counter()
    trial = job.trial.model_copy(update={"freeze_steps": 0.0})
    set_threads(job.threads)
    reset_peak_memory()
    try:
        trainer = Trainer(open_data(job), trial, metric=job.metric, workers=job.workers)
        built = time.perf_counter() - started
        share, lasted = _epochs(trainer, epochs, started + seconds)
        return {
            "seconds_to_build": built,
            "seconds_per_epoch": lasted,
            "share": share,
            "steps_per_epoch": trainer.steps_per_epoch,
            "weights_bytes": sum(tensor.nbytes for tensor in trainer.network.state_dict().values()),
            **_saved(trainer, job),
            **_memory(),
        }
    except Exception as error:
        kind = failure_kind(error)
        if kind is None:
            raise
        return {"failure": {"kind": kind, "message": str(error)}}
    finally:
        trainer = None  # type: ignore[assignment]
        gc.collect()


def _epochs(trainer: "Trainer", epochs: int, deadline: float) -> tuple[float, list[float]]:
    """Run epochs until the deadline, at least one; return the share of each that was run, and the seconds that whole ones take."""
    whole = trainer.dataset
    warmup = _part(trainer, WARMUP_STEPS * trainer.trial.batch_size, WARMUP_IMAGES)
    rough = [_run(trainer, *warmup) for _ in range(2)][-1]
    share = min(1.0, max(0.0, deadline - time.perf_counter()) / (epochs * rough))
    rows, lasted = whole.rows, list[float]()
    wanted = [math.ceil(share * len(rows[name])) for name in ("train", "validation")]
    for _ in range(epochs):
        lasted.append(_run(trainer, *_part(trainer, *wanted)))
        if time.perf_counter() > deadline:
            break
    return share, lasted


def _part(trainer: "Trainer", train: int, validation: int) -> "tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]":
    """Return the first so many training images, at least a batch of them, and validation images."""
    rows = trainer.dataset.rows
    return rows["train"][: max(train, trainer.trial.batch_size)], rows["validation"][: max(validation, 1)]


def _run(trainer: "Trainer", train: "npt.NDArray[np.int64]", validation: "npt.NDArray[np.int64]") -> float:
    """Run an epoch on a part of the images and return the seconds that one on all of them takes."""
    from trainables.training.trainer import IMAGES_FOR_STATISTICS

    whole = trainer.dataset
    trainer.dataset = replace(whole, rows=whole.rows | {"train": train, "validation": validation})
    row = trainer.run_epoch()
    trainer.dataset = whole
    trainer.epoch = 0
    steps = trainer.passes * (len(train) // trainer.trial.batch_size)
    seen = len(validation) + min(len(train), IMAGES_FOR_STATISTICS)
    to_see = len(whole.rows["validation"]) + min(len(whole.rows["train"]), IMAGES_FOR_STATISTICS)
    return row["seconds_training"] * trainer.steps_per_epoch / steps + row["seconds_evaluation"] * to_see / seen


def _saved(trainer: "Trainer", job: Assignment) -> dict[str, Any]:
    """Save the trainer's state on the disk where the trial would, and take it away again."""
    from trainables.training.checkpoint import save_state

    folder = Path(job.folder)
    around = next((str(path) for path in (folder, *folder.parents) if path.is_dir()), None) if folder.is_absolute() else None
    try:
        place = tempfile.TemporaryDirectory(dir=around, prefix=".injerto-plan-")
    except OSError:
        place = tempfile.TemporaryDirectory(prefix="injerto-plan-")
    with place as name:
        file, started = Path(name) / "last.pt", time.perf_counter()
        save_state(file, {**trainer.state(), "seconds": 0.0})
        return {"seconds_to_save": time.perf_counter() - started, "state_bytes": file.stat().st_size}


def _memory() -> dict[str, int]:
    import psutil
    import torch

    gpu = torch.cuda.is_available()
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    shared = getattr(psutil.Process().memory_info(), "shared", 0)
    return {
        "memory_bytes": max(0, most - shared),
        "gpu_bytes": peak_memory() if gpu else 0,
        "machine_bytes": min([psutil.virtual_memory().total, *_limits()]),
        "machine_gpu_bytes": torch.cuda.get_device_properties(0).total_memory if gpu else 0,
    }


def _limits() -> list[int]:
    """Return the limits on this container's memory, if it is one, bytes."""
    found = []
    for path in CGROUP_LIMITS:
        with suppress(OSError, ValueError):
            found.append(int(Path(path).read_text()))
    return found
