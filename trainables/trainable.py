"""What Ray Tune runs: one `Trainable` whose step is one reported epoch. Light to import: torch comes with the first step."""

import gc
import platform
import resource
import sys
import time
import traceback
from typing import TYPE_CHECKING, Any

from ray import tune

from trainables.config import DataConfig, Model, TrialConfig
from trainables.errors import DamagedError, DataError, InjertoError, NonFiniteError, ResourceError, StorageError
from trainables.roots import join, size_of

if TYPE_CHECKING:
    from trainables.dataset import Dataset
    from trainables.trainer import Trainer


class Assignment(Model):
    """All that a worker needs to run one trial, small enough to travel with it. `reported` epochs are in the record already."""

    number: int
    trial: TrialConfig
    data: DataConfig
    task: str
    fingerprint: str
    metric: str
    folder: str
    threads: int = 1
    workers: int = 0
    reported: int = 0


FAILURES: tuple[tuple[type[BaseException], str], ...] = (
    (NonFiniteError, "non-finite"),
    (DataError, "data"),
    (ResourceError, "no space"),
    (StorageError, "no storage"),
    (InjertoError, "configuration"),
    (MemoryError, "out of memory"),
)
"""Errors that a second try cannot mend → the kind of failure they are."""


def failure_kind(error: BaseException) -> str | None:
    """Return the kind of a failure that ends a trial for good, None where another try may help."""
    if type(error).__name__ == "OutOfMemoryError":
        return "out of memory"
    return next((kind for cause, kind in FAILURES if isinstance(error, cause)), None)


class ImageTrial(tune.Trainable):
    """Fine-tunes one network; `config` holds an `Assignment`. Each epoch is on disk before it is reported."""

    def setup(self, config: dict[str, Any]) -> None:
        """Keep the assignment; everything that can fail waits for the first step, where Ray retries."""
        self._assignment = config
        self._trainer: Trainer | None = None

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next trial's assignment; the process, its imports and its data maps stay."""
        self.cleanup()
        self.setup(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """Train and evaluate one epoch, save it, and report the whole schema.

        An epoch that was saved before the worker broke, but perhaps not recorded, is reported first.
        """
        started = time.perf_counter()
        assignment = Assignment.model_validate(self._assignment["assignment"])
        try:
            found = self._trainer is None
            if self._trainer is None:
                self._trainer, self._seconds = self.begin_trial(assignment)
            trainer = self._trainer
            unheard = found and trainer.epoch > assignment.reported
            if trainer.epoch < assignment.trial.epochs and not unheard:
                trainer.run_epoch()
                self._seconds += time.perf_counter() - started
                self.keep_state(trainer, assignment, self._seconds)
            return self.report_epoch(trainer, assignment, self._seconds)
        except Exception as error:
            kind = failure_kind(error)
            if kind is None:
                raise
            self.cleanup()
            about = {"kind": kind, "message": str(error), "traceback": traceback.format_exc()}
            return {"done": True, "failure": about, "objective": float("nan"), "progress": 0}

    def begin_trial(self, assignment: Assignment) -> "tuple[Any, float]":
        """Return what carries the trial from epoch to epoch, where its state on disk leaves it, and the seconds spent on it so far."""
        return begin(assignment, start_over=True)

    def keep_state(self, trainer: Any, assignment: Assignment, seconds: float) -> None:
        """Put the state on disk."""
        save(trainer, assignment, seconds)

    def report_epoch(self, trainer: Any, assignment: Assignment, seconds: float) -> dict[str, Any]:
        """Return one epoch's result for Ray."""
        return report(trainer, assignment, seconds)

    def save_checkpoint(self, checkpoint_dir: str) -> dict[str, Any]:
        """Return nothing to keep: the state is already at its own place, which every node finds by the trial's number."""
        return {}

    def load_checkpoint(self, checkpoint: dict[str, Any] | None) -> None:
        """Drop what is in memory; the next step begins from the state on disk."""
        self._trainer = None

    @staticmethod
    def finish(assignment: dict[str, Any], weights: str | None = None) -> dict[str, Any]:
        """Return what a finished trial says on the test images; see `trainables.final.finish`."""
        from trainables.final import finish

        return finish(assignment, weights)

    def cleanup(self) -> None:
        """Free the network."""
        self._trainer = None
        gc.collect()
        torch = sys.modules.get("torch")
        if torch is not None and torch.cuda.is_available():
            torch.cuda.empty_cache()


def checkpoint_location(assignment: Assignment) -> str:
    """Return where a trial's state is kept."""
    return join(assignment.folder, "last.pt")


def open_data(assignment: Assignment) -> "Dataset":
    """Open the data set from this node's cache, or make it there.

    Raises ``DataError`` if the images are no longer those that the search began with.
    """
    from trainables.dataset import open_dataset, prepare

    size, aspect = assignment.trial.image_size, assignment.trial.aspect
    try:
        return open_dataset(assignment.fingerprint, size, aspect)
    except DataError:
        dataset = prepare(**assignment.data.model_dump(), image_size=size, aspect=aspect)
    if dataset.fingerprint != assignment.fingerprint:
        raise DataError(
            f"the images of {assignment.data.source!r} have changed since the search began "
            f"(fingerprint {assignment.fingerprint[:12]} then, {dataset.fingerprint[:12]} now); start a new search"
        )
    return dataset


def begin(assignment: Assignment, *, start_over: bool = False) -> "tuple[Trainer, float]":
    """Build the trainer, from its saved state where there is one; return it and the seconds already spent on the trial.

    Raises ``DamagedError`` for a state that is none, unless the trial may start over.
    """
    from trainables.checkpoint import load_state
    from trainables.trainer import Trainer, set_threads

    set_threads(assignment.threads)
    reset_peak_memory()
    trainer = Trainer(open_data(assignment), assignment.trial, metric=assignment.metric, workers=assignment.workers)
    try:
        state = load_state(checkpoint_location(assignment))
    except DamagedError:
        if not start_over:
            raise
        state = None
    if state is not None:
        trainer.load(state)
    return trainer, float(state["seconds"]) if state else 0.0


def save(trainer: "Trainer", assignment: Assignment, seconds: float) -> None:
    """Write the trainer's state to the trial's folder."""
    from trainables.checkpoint import save_state

    save_state(checkpoint_location(assignment), {**trainer.state(), "seconds": seconds})


def report(trainer: "Trainer", assignment: Assignment, seconds: float) -> dict[str, Any]:
    """Return one epoch's result for Ray: the clock, the objective, the history so far and the trial's facts."""
    epochs = assignment.trial.epochs
    return {
        "done": trainer.epoch >= epochs,
        "epoch": trainer.epoch,
        "progress": progress(trainer.epoch, epochs),
        "objective": trainer.history["objective"][-1],
        "history": trainer.history,
        "facts": {
            "objective_epoch": trainer.objective_epoch(),
            "seconds_training": sum(trainer.history["seconds_training"]) + sum(trainer.history["seconds_evaluation"]),
            "seconds_total": seconds,
            "peak_memory_bytes": peak_memory(),
            "trainable_parameters": trainer.network.trainable_parameters(),
            "weights": trainer.provenance,
            "device": str(trainer.device),
            "node": platform.node(),
            "checkpoint": checkpoint_location(assignment),
            "checkpoint_bytes": size_of(checkpoint_location(assignment)),
        },
    }


def progress(epoch: int, epochs: int) -> int:
    """Return the share of a trial's own epochs that is done, in per mille."""
    return round(1000 * epoch / epochs)


def reset_peak_memory() -> None:
    """Forget what earlier trials of this process held on the GPU."""
    torch = sys.modules["torch"]
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()


def peak_memory() -> int:
    """Return the largest memory in bytes that this process held: of the GPU where it has one, else of the machine."""
    torch = sys.modules["torch"]
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
