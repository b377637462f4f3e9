"""Builds a trial's trainer from its assignment and saved state, saves it, and reports its epochs. Building one imports torch."""

import platform
import time
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from trainables.errors import DamagedError
from trainables.storage.root import size_of
from trainables.worker.assignment import Assignment, checkpoint_location, open_data, progress
from trainables.worker.memory import peak_memory, reset_peak_memory
from trainables.worker.node_usage import node_usage, worker_name

if TYPE_CHECKING:
    from trainables.distributed.world import World
    from trainables.training.trainer import Trainer


@dataclass
class WorkTime:
    """How long a trial has been worked on: `seconds` in all, and `spans` of (worker's name, start, end).

    Start and end are seconds since 1970.
    """

    seconds: float = 0.0
    spans: list[tuple[str, float, float]] = field(default_factory=list)

    def add(self, seconds: float) -> None:
        """Add work of this process that took so many seconds and ends now.

        If the last span is this process's, it is extended to now; else a span is added.
        """
        self.seconds += seconds
        now, own_name = time.time(), worker_name()
        began = self.spans.pop()[1] if self.spans and self.spans[-1][0] == own_name else now - seconds
        self.spans.append((own_name, began, now))


def build_trainer(assignment: Assignment, *, start_over: bool = False, world: "World | None" = None) -> "tuple[Trainer, WorkTime]":
    """Return the trainer of a trial, loaded with the trial's saved state if there is one, and the work done so far.

    `world` is this process's place among several that will train the trial together; by default it trains alone, whatever the
    assignment's replicas. Raises ``DamagedError`` for a damaged state, or with `start_over` begins from the first epoch instead.
    Raises as `open_data`, `Trainer` and `load_state` do. Sets torch's CPU threads and resets the measurement of peak memory.
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
        return trainer, WorkTime()
    trainer.load(state)
    return trainer, WorkTime(float(state["seconds"]), [tuple(span) for span in state.get("spans", [])])


def save_trainer(trainer: "Trainer", assignment: Assignment, work_time: WorkTime) -> None:
    """Write the trainer's state and the work time to the trial's folder. Raises as `trainables.training.checkpoint.save_state` does."""
    from trainables.training.checkpoint import save_state

    save_state(checkpoint_location(assignment), {**trainer.state(), **asdict(work_time)})


def epoch_result(trainer: "Trainer", assignment: Assignment, work_time: WorkTime) -> dict[str, Any]:
    """Return what a step reports to Ray after an epoch.

    ``epoch`` is 1-based, ``progress`` per mille of the trial's epochs, ``objective`` the value to optimize, ``history`` a list for each
    name with one value for each epoch so far, ``facts`` what the record keeps about the trial and its worker. ``done`` ends the trial.
    """
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
            "seconds_total": work_time.seconds,
            "spans": work_time.spans,
            "usage": node_usage(),
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
