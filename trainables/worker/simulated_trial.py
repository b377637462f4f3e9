"""A trial that is replayed instead of trained: no images, no torch, and an outcome that is known beforehand.

It speaks to the search exactly as an `ImageTrial` does and costs a few milliseconds, so a thousand of them show how the search
itself bears up. What a trial learns follows from its configuration, what goes wrong from its number: whoever knows both can say how
a search must end.
"""

import json
import math
import os
import platform
import resource
import signal
import time
from collections.abc import Mapping
from itertools import accumulate
from random import Random
from typing import Any, ClassVar, Literal, NamedTuple

from pydantic import Field, model_validator

from trainables.config import Model, Share, TrialConfig
from trainables.errors import NonFiniteError
from trainables.storage.locations import Root, join, split
from trainables.worker.node_usage import usage
from trainables.worker.trainable import Assignment, Effort, ImageTrial, progress

STATE, FAULTS = "last.json", "faults.json"
"""Files in a trial's folder: what has been replayed so far, and what has gone wrong so far."""
FaultKind = Literal["exception", "kill", "kill after saving", "non-finite", "out of memory"]
MENDED: tuple[FaultKind, ...] = ("exception", "kill", "kill after saving")
"""Faults that another attempt may get past; the others end the trial whenever they are met."""
RAISED: Mapping[FaultKind, tuple[type[Exception], str]] = {
    "exception": (RuntimeError, "a replayed exception"),
    "non-finite": (NonFiniteError, "a replayed loss is not a finite number"),
    "out of memory": (MemoryError, "a replayed device has no memory left"),
}
"""Kind of fault → what a step raises; the other kinds kill the worker, in mid-epoch or between saving the epoch and reporting it."""


class Fault(NamedTuple):
    """Something that goes wrong in a trial, while it trains a 1-based epoch."""

    kind: FaultKind
    epoch: int


class Simulation(Model):
    """How long replayed trials take, and what share of them goes wrong in which way."""

    seconds: float = Field(0.0, ge=0, description="how long a whole trial takes, spread evenly over its epochs")
    rates: dict[FaultKind, Share] = Field({}, description="kind of fault: share of the trials that meet it, at a random epoch")
    attempts: int = Field(1, ge=1, description="how many attempts an exception or a kill spoils; the next one gets past it")
    seed: int = Field(0, description="seed of which trials go wrong, and when")

    @model_validator(mode="after")
    def _one_fault_a_trial(self) -> "Simulation":
        if sum(self.rates.values()) > 1 + 1e-9:
            raise ValueError(f"rates must add up to at most 1 but got {self.rates}")
        return self

    def fault(self, number: int, epochs: int) -> Fault | None:
        """Return what goes wrong in a trial of so many epochs, None where nothing does."""
        draw = Random(f"{self.seed} {number}")
        lot, epoch = draw.random(), draw.randint(1, epochs)
        limits = zip(self.rates, accumulate(self.rates.values()), strict=True)
        return next((Fault(kind, epoch) for kind, limit in limits if lot < limit), None)

    def fault_at(self, number: int, epochs: int, *, epoch: int, attempt: int) -> FaultKind | None:
        """Return what goes wrong in one epoch of a trial at a 1-based attempt, None where nothing does."""
        fault = self.fault(number, epochs)
        spared = fault is None or fault.epoch != epoch or (fault.kind in MENDED and attempt > self.attempts)
        return None if spared or fault is None else fault.kind


def curve(trial: TrialConfig) -> list[float]:
    """Return the objective after each epoch, within (0, 1): it nears a ceiling that some fields set, under noise from all of them."""
    draw = Random(trial.model_dump_json())
    ceiling = 2.5 - 0.5 * (math.log10(trial.learning_rate) + 3) ** 2 - trial.augmentation_strength - abs(trial.dropout - 0.2)
    gaps = (3 * math.exp(-4 * epoch / trial.epochs) for epoch in range(1, trial.epochs + 1))
    return [1 / (1 + math.exp(gap - ceiling + draw.gauss(0, 0.05))) for gap in gaps]


class SimulatedTrainer:
    """Stands where a `Trainer` stands: carries a trial from epoch to epoch, from what its folder holds."""

    def __init__(self, assignment: Assignment, replay: Simulation) -> None:
        self.assignment, self.replay = assignment, replay
        self.epoch, self.seconds = 0, 0.0
        self.history: dict[str, list[float]] = {}
        self.folder = Root(assignment.folder)
        if state := read(self.folder, STATE):
            self.epoch, self.seconds, self.history = state["epoch"], state["seconds"], state["history"]

    def run_epoch(self) -> None:
        """Simulation one epoch and save it, unless something goes wrong. Raises what goes wrong, where that leaves the process alive."""
        started, trial = time.perf_counter(), self.assignment.trial
        fault = self._fault()
        time.sleep(self.replay.seconds / trial.epochs / (2 if fault else 1))
        if fault and fault != "kill after saving":
            self._go_wrong(fault)
        value = curve(trial)[self.epoch]
        self.epoch += 1
        seconds = time.perf_counter() - started
        row = {
            self.assignment.metric: value,
            "objective": value,
            "train_loss": 1 - value,
            "learning_rate": trial.learning_rate,
            "seconds_training": seconds,
            "seconds_evaluation": 0.0,
            "images_per_second": 0.0,
        }
        for name, number in row.items():
            self.history.setdefault(name, []).append(number)
        self.seconds += seconds
        write(self.folder, STATE, {"epoch": self.epoch, "seconds": self.seconds, "history": self.history})
        if fault:
            self._go_wrong(fault)

    def report(self) -> dict[str, Any]:
        """Return what `trainables.worker.trainable.report` returns for a trained epoch."""
        epochs = self.assignment.trial.epochs
        return {
            "done": self.epoch >= epochs,
            "epoch": self.epoch,
            "progress": progress(self.epoch, epochs),
            "objective": self.history["objective"][-1],
            "history": self.history,
            "facts": {
                "objective_epoch": self.epoch,
                "seconds_training": sum(self.history["seconds_training"]),
                "seconds_total": self.seconds,
                "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
                "trainable_parameters": 0,
                "weights": "replayed",
                "device": "cpu",
                "replicas": self.assignment.replicas,
                "node": platform.node(),
                "checkpoint": join(self.folder.location, STATE),
                "checkpoint_bytes": self.folder.size(STATE),
            },
        }

    def _fault(self) -> FaultKind | None:
        met = len(faults_met(self.folder))
        return self.replay.fault_at(self.assignment.number, self.assignment.trial.epochs, epoch=self.epoch + 1, attempt=met + 1)

    def _go_wrong(self, kind: FaultKind) -> None:
        write(self.folder, FAULTS, [*faults_met(self.folder), kind])
        if kind not in RAISED:
            os.kill(os.getpid(), signal.SIGKILL)
        error, message = RAISED[kind]
        raise error(message)


class SimulatedTrial(ImageTrial):
    """An `ImageTrial` that replays; `SimulatedTrial.of(Simulation(...))` is one that goes wrong."""

    replay: ClassVar[Simulation] = Simulation()

    @classmethod
    def of(cls, replay: Simulation) -> type["SimulatedTrial"]:
        """Return the class of trials that are replayed in this way; it carries that to the workers."""
        return type(cls.__name__, (cls,), {"replay": replay, "__module__": __name__})

    def begin_trial(self, assignment: Assignment) -> tuple[SimulatedTrainer, Effort]:
        """Return the player, from what the trial's folder holds, and what it has cost."""
        player = SimulatedTrainer(assignment, self.replay)
        return player, Effort(player.seconds)

    def keep_state(self, trainer: SimulatedTrainer, assignment: Assignment, effort: Effort) -> None:
        """Do nothing: a player saves by itself, so that it can go wrong before and after."""

    def report_epoch(self, trainer: SimulatedTrainer, assignment: Assignment, effort: Effort) -> dict[str, Any]:
        """Return one epoch's result for Ray."""
        result = trainer.report()
        return result | {"facts": result["facts"] | {"spans": effort.spans, "usage": usage()}}

    @staticmethod
    def finish(assignment: dict[str, Any], weights: str | None = None) -> dict[str, Any]:
        """Return the trial's last value as its metric on every split; its weights are its state."""
        job = Assignment.model_validate(assignment)
        state = read(Root(job.folder), STATE)
        if weights is not None:
            around, key = split(weights)
            write(Root(around), key, state)
        value = state["history"]["objective"][-1]
        return {"test": {job.metric: value}, "validation": {job.metric: value}}

    @staticmethod
    def previews(assignment: dict[str, Any]) -> dict[str, Any]:
        """Return nothing: there are no images."""
        return {}


def faults_met(folder: Root) -> list[FaultKind]:
    """Return what has gone wrong so far in the trial whose folder this is; it is noted before it does."""
    return read(folder, FAULTS) or []


def read(folder: Root, key: str) -> Any:
    """Return a JSON value of a folder, None where there is none."""
    found = folder.read(key)
    return None if found is None else json.loads(found)


def write(folder: Root, key: str, value: Any) -> None:
    """Put a JSON value into a folder, whole or not at all."""
    folder.write(key, json.dumps(value).encode())
