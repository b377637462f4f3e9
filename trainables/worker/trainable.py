"""What Ray Tune runs: one `Trainable` whose step is one reported epoch. Light to import: torch comes with the first step."""

import gc
import platform
import resource
import sys
import time
import traceback
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from pydantic import Field
from ray import tune

from trainables.config import DataConfig, Model, TrialConfig
from trainables.errors import DamagedError, DataError, InjertoError, NonFiniteError, ResourceError, StorageError
from trainables.storage.locations import join, size_of
from trainables.worker.journal import Journal
from trainables.worker.node_draining import raise_if_draining
from trainables.worker.node_usage import usage, worker
from trainables.worker.trial_report import read_trial_report, write_trial_report

if TYPE_CHECKING:
    from trainables.data.dataset import Dataset
    from trainables.distributed.world import World
    from trainables.training.trainer import Trainer
    from trainables.worker.replicas import Replicas


class Assignment(Model):
    """All that a worker needs to run one trial, small enough to travel with it. `reported` epochs are in the record already.

    With `replicas` above 1 as many processes train it, each in a bundle of the trial's placement group, on its part of every batch;
    batch norm then sees that part, or with `sync_batch_norm` all of them.
    """

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
    manifest: str | None = None
    replicas: int = Field(1, ge=1)
    sync_batch_norm: bool = False


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


@dataclass
class Effort:
    """What a trial has cost: seconds of work, and which worker was at it from when to when, in seconds since the epoch."""

    seconds: float = 0.0
    spans: list[tuple[str, float, float]] = field(default_factory=list)

    def add(self, seconds: float) -> None:
        """Add work of this worker that ends now."""
        self.seconds += seconds
        now, me = time.time(), worker()
        began = self.spans.pop()[1] if self.spans and self.spans[-1][0] == me else now - seconds
        self.spans.append((me, began, now))


class ImageTrial(tune.Trainable):
    """Fine-tunes one network; `config` holds an `Assignment`. Each epoch is on disk before it is reported."""

    _replicas: "Replicas | None" = None

    def setup(self, config: dict[str, Any]) -> None:
        """Keep the assignment; everything that can fail waits for the first step, where Ray retries."""
        self._assignment = config
        self._trainer: Trainer | None = None
        self._journal = Journal()

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next trial's assignment; the process, its imports and its data maps stay, and so do its replicas."""
        self._rest()
        self.setup(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """Train and evaluate one epoch, save it, and report the whole schema.

        An epoch that was saved before the worker broke, but perhaps not recorded, is reported first.
        """
        started = time.perf_counter()
        assignment = Assignment.model_validate(self._assignment["assignment"])
        raise_if_draining()
        try:
            with self._journal.listening():
                found = self._trainer is None
                if self._trainer is None:
                    self._trainer, self._effort = self.begin_trial(assignment)
                trainer = self._trainer
                unheard = found and trainer.epoch > assignment.reported
                if trainer.epoch < assignment.trial.epochs and not unheard:
                    self._run_epoch(trainer)
                    self._effort.add(time.perf_counter() - started)
                    self.keep_state(trainer, assignment, self._effort)
            return self.report_epoch(trainer, assignment, self._effort)
        except Exception as error:
            kind = failure_kind(error)
            if kind is None:
                if self._replicas is not None:
                    self.cleanup()  # some have done more of the epoch than others
                raise
            self._rest()
            about = {"kind": kind, "message": str(error), "traceback": traceback.format_exc()}
            return {"done": True, "failure": about, "objective": float("nan"), "progress": 0}

    def begin_trial(self, assignment: Assignment) -> "tuple[Any, Effort]":
        """Return what carries the trial from epoch to epoch, where its state on disk leaves it, and what it has cost so far."""
        trainer, effort = self._begin(assignment)
        if trainer.epoch:
            with suppress(DamagedError):
                self._journal.recall(read_trial_report(assignment.folder).get("log", []))
        workers = ", ".join([worker(), *(self._replicas.names if self._replicas else ())])
        self._journal.say(f"{workers} on {trainer.device}: from epoch {trainer.epoch + 1} of {assignment.trial.epochs}")
        return trainer, effort

    def keep_state(self, trainer: Any, assignment: Assignment, effort: "Effort") -> None:
        """Put the account and then the state on disk: what has a state has an account."""
        row = {name: values[-1] for name, values in trainer.history.items()}
        self._journal.say(f"epoch {trainer.epoch}: " + ", ".join(f"{name} {value:.4g}" for name, value in row.items()))
        write_trial_report(assignment.folder, self._journal.lines, trainer.pictures())
        save(trainer, assignment, effort)

    def report_epoch(self, trainer: Any, assignment: Assignment, effort: "Effort") -> dict[str, Any]:
        """Return one epoch's result for Ray."""
        result = report(trainer, assignment, effort)
        if self._replicas is not None:
            result["facts"]["peak_memory_bytes"] = max(result["facts"]["peak_memory_bytes"], self._replicas.peak_memory)
        return result

    def save_checkpoint(self, checkpoint_dir: str) -> dict[str, Any]:
        """Return nothing to keep: the state is already at its own place, which every node finds by the trial's number."""
        return {}

    def load_checkpoint(self, checkpoint: dict[str, Any] | None) -> None:
        """Drop what is in memory; the next step begins from the state on disk."""
        self._rest()

    @staticmethod
    def finish(assignment: dict[str, Any], weights: str | None = None) -> dict[str, Any]:
        """Return what a finished trial says on the test images; see `trainables.worker.final_evaluation.finish`."""
        from trainables.worker.final_evaluation import finish

        return finish(assignment, weights)

    @staticmethod
    def previews(assignment: dict[str, Any]) -> dict[str, Any]:
        """Return what augmentation does to the images; see `trainables.data.augmentation_previews.sheets`."""
        from trainables.data.augmentation_previews import sheets

        job = Assignment.model_validate(assignment)
        return sheets(open_data(job), job.trial.augmentation_ops)

    def cleanup(self) -> None:
        """Free the network and end the replicas."""
        if self._replicas is not None:
            self._replicas.close()
            self._replicas = None
        self._rest()

    def _rest(self) -> None:
        """Free the network; the processes stay for the next trial."""
        if self._replicas is not None and not self._replicas.rest():
            self._replicas = None
        self._trainer = None
        free_memory()

    def _begin(self, assignment: Assignment) -> "tuple[Trainer, Effort]":
        if self._replicas is not None and self._replicas.size != assignment.replicas:
            self._replicas.close()
            self._replicas = None
        if assignment.replicas == 1:
            return begin(assignment, start_over=True)
        from trainables.worker.replicas import Replicas

        self._replicas = self._replicas or Replicas(assignment.replicas)
        return self._replicas.begin(assignment)

    def _run_epoch(self, trainer: Any) -> None:
        if self._replicas is None:
            trainer.run_epoch()
        else:
            self._replicas.run_epoch(trainer)


def checkpoint_location(assignment: Assignment) -> str:
    """Return where a trial's state is kept."""
    return join(assignment.folder, "last.pt")


def open_data(assignment: Assignment) -> "Dataset":
    """Open the data set from this node's cache, or make it there: from the search's manifest where there is one, else from its source.

    Raises ``DataError`` if the images are no longer those that the search began with.
    """
    from trainables.data.dataset import open_dataset, prepare
    from trainables.data.manifest import prepare_from

    size, aspect = assignment.trial.image_size, assignment.trial.aspect
    try:
        return open_dataset(assignment.fingerprint, size, aspect)
    except DataError:
        if assignment.manifest is not None:
            dataset = prepare_from(assignment.manifest, size, aspect)
        else:
            dataset = prepare(**assignment.data.model_dump(), image_size=size, aspect=aspect)
    if dataset.fingerprint != assignment.fingerprint:
        raise DataError(
            f"the images of {assignment.data.source!r} have changed since the search began "
            f"(fingerprint {assignment.fingerprint[:12]} then, {dataset.fingerprint[:12]} now); start a new search"
        )
    return dataset


def begin(assignment: Assignment, *, start_over: bool = False, world: "World | None" = None) -> "tuple[Trainer, Effort]":
    """Build the trainer, from its saved state where there is one; return it and what the trial has cost already.

    It is one process's trainer in a `world` of several that will meet, by default the only one, whatever the assignment's replicas.

    Raises ``DamagedError`` for a state that is none, unless the trial may start over.
    """
    from trainables.distributed.world import ALONE
    from trainables.training.checkpoint import load_state
    from trainables.training.trainer import Trainer, set_threads

    set_threads(assignment.threads)
    reset_peak_memory()
    trainer = Trainer(
        open_data(assignment),
        assignment.trial,
        metric=assignment.metric,
        workers=assignment.workers,
        world=world or ALONE,
        sync_batch_norm=assignment.sync_batch_norm,
    )
    try:
        state = load_state(checkpoint_location(assignment))
    except DamagedError:
        if not start_over:
            raise
        state = None
    if state is None:
        return trainer, Effort()
    trainer.load(state)
    return trainer, Effort(float(state["seconds"]), [tuple(span) for span in state.get("spans", [])])


def save(trainer: "Trainer", assignment: Assignment, effort: Effort) -> None:
    """Write the trainer's state to the trial's folder."""
    from trainables.training.checkpoint import save_state

    save_state(checkpoint_location(assignment), {**trainer.state(), **asdict(effort)})


def report(trainer: "Trainer", assignment: Assignment, effort: Effort) -> dict[str, Any]:
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
            "seconds_total": effort.seconds,
            "spans": effort.spans,
            "usage": usage(),
            "peak_memory_bytes": peak_memory(),
            "trainable_parameters": trainer.network.trainable_parameters(),
            "weights": trainer.provenance,
            "device": str(trainer.device),
            "replicas": assignment.replicas,
            "node": platform.node(),
            "checkpoint": checkpoint_location(assignment),
            "checkpoint_bytes": size_of(checkpoint_location(assignment)),
        },
    }


def progress(epoch: int, epochs: int) -> int:
    """Return the share of a trial's own epochs that is done, in per mille."""
    return round(1000 * epoch / epochs)


def free_memory() -> None:
    """Give back what a network has left, on the GPU as well."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()


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
