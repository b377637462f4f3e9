"""Builds a trial's trainer from its assignment and saved state, saves it, and reports its epochs. Building one imports torch."""

import platform
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from trainables.storage.saved_states import SavedStates
from trainables.storage.secrets import redact
from trainables.worker.assignment import Assignment, open_data, progress
from trainables.worker.failures import one_line
from trainables.worker.memory import peak_memory, reset_peak_memory
from trainables.worker.node_usage import node_usage, worker_name

if TYPE_CHECKING:
    from trainables.distributed.world import World
    from trainables.training.trainer import Trainer


@dataclass
class WorkDone:
    """What workers have done for a trial: `seconds` in all, `spans` of (worker's name, start, end), and `restarts`.

    Start and end are seconds since 1970. A restart says why a worker continued from an earlier epoch than the trial had reached.
    """

    seconds: float = 0.0
    spans: list[tuple[str, float, float]] = field(default_factory=list)
    restarts: list[str] = field(default_factory=list)

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> "WorkDone":
        """Return what a saved state says. Earlier versions saved only the seconds, or no restarts."""
        return cls(float(state["seconds"]), [tuple(span) for span in state.get("spans", [])], list(state.get("restarts", [])))

    def add(self, seconds: float) -> None:
        """Add work of this process that took so many seconds and ends now.

        If the last span is this process's, it is extended to now; else a span is added.
        """
        self.seconds += seconds
        now, own_name = time.time(), worker_name()
        began = self.spans.pop()[1] if self.spans and self.spans[-1][0] == own_name else now - seconds
        self.spans.append((own_name, began, now))


def build_trainer(
    assignment: Assignment, states: SavedStates, *, fall_back: bool = False, world: "World | None" = None
) -> "tuple[Trainer, WorkDone]":
    """Return the trainer of a trial, loaded with the newest of its saved states if there is one, and the work done so far.

    `world` is this process's place among several that will train the trial together; by default it trains alone, whatever the
    assignment's replicas. Raises ``DamagedError`` if the newest state is damaged; with `fall_back` it loads an older one instead, or begins
    from the first epoch (see `describe_restart`). Raises as `open_data`, `Trainer` and `load_state` do. Sets torch's CPU threads and resets
    the measurement of peak memory.
    """
    from trainables.distributed.world import ALONE
    from trainables.training.checkpoint import load_state
    from trainables.training.features.features import node_cache
    from trainables.training.fold_trainer import new_trainer
    from trainables.training.trainer import set_threads

    set_threads(assignment.threads)
    reset_peak_memory()
    trainer = new_trainer(
        open_data(assignment),
        assignment.trial,
        metric=assignment.metric,
        workers=assignment.workers,
        world=world or ALONE,
        sync_batch_norm=assignment.sync_batch_norm,
        feature_cache=node_cache(assignment.feature_cache),
    )
    state = states.load(load_state, newest_only=not fall_back)
    if state is None:
        return trainer, WorkDone()
    trainer.load(state)
    return trainer, WorkDone.from_state(state)


def describe_restart(states: SavedStates, *, epoch: int, reported: int) -> list[str]:
    """Return why a trial that `states` were loaded for continues after `epoch`, although it had done more; an empty list if it had not.

    The list holds one sentence, for `WorkDone.restarts`. `reported` is the number of epochs that the record has.
    """
    if epoch >= reported and not states.damaged:
        return []
    place = f"continues after epoch {epoch}" if epoch else "starts from the beginning"
    recorded = f", although {reported} epochs are recorded" if epoch < reported else ""
    why = "; ".join(map(one_line, states.damaged.values())) or f"there is no newer state in {redact(states.folder)}"
    return [f"the trial {place}{recorded}: {why}"]


def save_trainer(trainer: "Trainer", states: SavedStates, work: WorkDone) -> None:
    """Write the trainer's state and the work done to the trial's folder. Raises as `trainables.training.checkpoint.save_state` does."""
    from trainables.training.checkpoint import save_state

    states.save(trainer.epoch, lambda location: save_state(location, {**trainer.state(), **asdict(work)}))


def epoch_result(trainer: "Trainer", assignment: Assignment, states: SavedStates, work: WorkDone) -> dict[str, Any]:
    """Return what a step reports to Ray after an epoch, whose state is in `states`.

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
            "seconds_total": work.seconds,
            "spans": work.spans,
            "restarts": work.restarts,
            "usage": node_usage(),
            "peak_memory_bytes": peak_memory(),
            "trainable_parameters": trainer.network.trainable_parameters(),
            "weights": trainer.provenance,
            "device": str(trainer.device),
            "accumulation": trainer.settings.parts.count,
            "replicas": assignment.replicas,
            "node": platform.node(),
            "checkpoint": states.saved.location,
            "checkpoint_bytes": states.saved.bytes,
        },
    }
