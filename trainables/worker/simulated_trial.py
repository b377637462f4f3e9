"""A trial that is simulated instead of trained: no images, no torch, and a result that is known beforehand.

It gives the search the same results as an `ImageTrial` in a few milliseconds, so tests can run a thousand trials. The objective follows
from the trial's configuration and the faults from its number, so a test can compute how a search must end.
"""

import json
import math
import os
import platform
import signal
import time
from collections.abc import Mapping
from itertools import accumulate
from random import Random
from typing import Any, ClassVar, Literal, NamedTuple

from pydantic import Field, model_validator

from trainables.config import Model, Share, TrialConfig
from trainables.errors import DamagedError, NonFiniteError, StorageError
from trainables.storage.locations import join
from trainables.storage.root import Root, root_and_key
from trainables.storage.saved_states import SavedStates
from trainables.worker.assignment import Assignment, progress
from trainables.worker.memory import peak_main_memory
from trainables.worker.node_usage import node_usage
from trainables.worker.trainable import ImageTrial
from trainables.worker.trial_state import WorkDone, describe_restart

FAULTS_FILE = "faults.json"
"""File in a trial's folder: the faults that have happened."""
STATE = ("epoch", "seconds", "history", "restarts")
"""The attributes of a `SimulatedTrainer` that are saved."""
FaultKind = Literal["exception", "kill", "kill after saving", "non-finite", "out of memory"]
RECOVERABLE: tuple[FaultKind, ...] = ("exception", "kill", "kill after saving")
"""Faults that a later attempt gets past; the others happen at every attempt and end the trial."""
EXCEPTIONS: Mapping[FaultKind, tuple[type[Exception], str]] = {
    "exception": (RuntimeError, "a simulated exception"),
    "non-finite": (NonFiniteError, "a simulated loss is not a finite number"),
    "out of memory": (MemoryError, "a simulated device has no memory left"),
}
"""Kind of fault → what a step raises. The other kinds kill the worker: in mid-epoch, or after saving the epoch and before reporting it."""


class Fault(NamedTuple):
    """A fault that the simulation causes in a trial, of a `FaultKind` such as an exception, while the trial trains a 1-based epoch."""

    kind: FaultKind
    epoch: int


class Simulation(Model):
    """How long simulated trials take, and what share of them fails with which kind of fault."""

    seconds: float = Field(0.0, ge=0, description="duration of a whole trial, spread evenly over its epochs")
    rates: dict[FaultKind, Share] = Field({}, description="kind of fault: share of the trials that have it, at a random epoch")
    attempts: int = Field(1, ge=1, description="attempts at which an exception or a kill happens; the next attempt gets past it")
    seed: int = Field(0, description="seed of which trials have a fault, and at which epoch")

    @model_validator(mode="after")
    def _one_fault_a_trial(self) -> "Simulation":
        if sum(self.rates.values()) > 1 + 1e-9:
            raise ValueError(f"rates must add up to at most 1 but got {self.rates}")
        return self

    def fault(self, number: int, epochs: int) -> Fault | None:
        """Return the fault of the trial with this number and so many epochs, or None if it has none.

        The same arguments give the same fault.
        """
        random = Random(f"{self.seed} {number}")
        draw, epoch = random.random(), random.randint(1, epochs)
        limits = zip(self.rates, accumulate(self.rates.values()), strict=True)
        return next((Fault(kind, epoch) for kind, limit in limits if draw < limit), None)

    def fault_at(self, number: int, epochs: int, *, epoch: int, attempt: int) -> FaultKind | None:
        """Return the kind of fault that happens in a 1-based epoch of the trial with this number, at its 1-based attempt, or None.

        A fault that can be recovered from happens at the first `attempts` attempts only.
        """
        fault = self.fault(number, epochs)
        if fault is None or fault.epoch != epoch or (fault.kind in RECOVERABLE and attempt > self.attempts):
            return None
        return fault.kind


def curve(trial: TrialConfig) -> list[float]:
    """Return the objective after each epoch, within (0, 1).

    It rises to a ceiling that the learning rate, augmentation strength and dropout set. The noise is seeded by all fields.
    """
    random = Random(trial.model_dump_json())
    ceiling = 2.5 - 0.5 * (math.log10(trial.learning_rate) + 3) ** 2 - trial.augmentation_strength - abs(trial.dropout - 0.2)
    gaps = (3 * math.exp(-4 * epoch / trial.epochs) for epoch in range(1, trial.epochs + 1))
    return [1 / (1 + math.exp(gap - ceiling + random.gauss(0, 0.05))) for gap in gaps]


class SimulatedTrainer:
    """Takes the place of a `Trainer`: simulates one epoch at a time, and continues from the newest state in the trial's folder."""

    def __init__(self, assignment: Assignment, simulation: Simulation) -> None:
        self.assignment, self.simulation = assignment, simulation
        self.epoch, self.seconds = 0, 0.0
        self.history: dict[str, list[float]] = {}
        self.restarts: list[str] = []
        self.folder, self.states = Root(assignment.folder), SavedStates(assignment.folder, "json")
        if state := self.states.load(read_state):
            self.epoch, self.seconds, self.history, self.restarts = (state[name] for name in STATE)
        self.restarts += describe_restart(self.states, epoch=self.epoch, reported=assignment.reported)

    def run_epoch(self) -> None:
        """Simulate one epoch, add it to `history` and save the state.

        If the epoch has a fault, raises its exception or kills this process.
        """
        started, trial = time.perf_counter(), self.assignment.trial
        fault = self._fault()
        time.sleep(self.simulation.seconds / trial.epochs / (2 if fault else 1))
        if fault and fault != "kill after saving":
            self._fail(fault)
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
        state = {name: getattr(self, name) for name in STATE}
        self.states.save(self.epoch, lambda location: write_json(*root_and_key(location), state))
        if fault:
            self._fail(fault)

    def result(self) -> dict[str, Any]:
        """Return the same as `trainables.worker.trial_state.epoch_result`, but without the facts ``spans`` and ``usage``."""
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
                "restarts": self.restarts,
                "peak_memory_bytes": peak_main_memory(),
                "trainable_parameters": 0,
                "weights": "simulated",
                "device": "cpu",
                "accumulation": self.assignment.trial.accumulation,
                "replicas": self.assignment.replicas,
                "node": platform.node(),
                "checkpoint": self.states.saved.location,
                "checkpoint_bytes": self.states.saved.bytes,
            },
        }

    def _fault(self) -> FaultKind | None:
        attempt = len(recorded_faults(self.folder)) + 1
        return self.simulation.fault_at(self.assignment.number, self.assignment.trial.epochs, epoch=self.epoch + 1, attempt=attempt)

    def _fail(self, kind: FaultKind) -> None:
        write_json(self.folder, FAULTS_FILE, [*recorded_faults(self.folder), kind])
        if kind not in EXCEPTIONS:
            os.kill(os.getpid(), signal.SIGKILL)
        error, message = EXCEPTIONS[kind]
        raise error(message)


class SimulatedTrial(ImageTrial):
    """An `ImageTrial` that is simulated, without duration or faults.

    `SimulatedTrial.of(Simulation(...))` is a class of trials that have them.
    """

    simulation: ClassVar[Simulation] = Simulation()

    @classmethod
    def of(cls, simulation: Simulation) -> type["SimulatedTrial"]:
        """Return a subclass whose trials follow this simulation. Ray sends it to the workers together with the class."""
        return type(cls.__name__, (cls,), {"simulation": simulation, "__module__": __name__})

    def start_trainer(self, assignment: Assignment) -> tuple[SimulatedTrainer, WorkDone]:
        """Return the trial's simulated trainer, which continues from the newest saved state, and the work done so far."""
        trainer = SimulatedTrainer(assignment, self.simulation)
        return trainer, WorkDone(trainer.seconds)

    def save_epoch(self, trainer: SimulatedTrainer, assignment: Assignment, work: WorkDone) -> None:
        """Do nothing: the simulated trainer has saved its state, because faults may happen before and after that."""

    def report_epoch(self, trainer: SimulatedTrainer, assignment: Assignment, work: WorkDone) -> dict[str, Any]:
        """Return what a step reports to Ray after an epoch, with the same keys as for an `ImageTrial`."""
        result = trainer.result()
        return result | {"facts": result["facts"] | {"spans": work.spans, "usage": node_usage()}}

    @staticmethod
    def evaluate_finished(assignment: dict[str, Any], weights: str | None = None) -> dict[str, Any]:
        """Return the trial's last objective as its metric on both splits, ``test`` and ``validation``.

        Also writes the trial's state as JSON to the path or URL `weights`, if given, in place of a network. Raises ``StorageError`` if the
        trial has no saved state.
        """
        job = Assignment.model_validate(assignment)
        state = SavedStates(job.folder).load(read_state)
        if state is None:
            raise StorageError(f"trial {job.number} left no checkpoint in {job.folder}")
        if weights is not None:
            write_json(*root_and_key(weights), state)
        value = state["history"]["objective"][-1]
        return {"test": {job.metric: value}, "validation": {job.metric: value}}

    @staticmethod
    def refit(assignment: dict[str, Any], weights: str | None = None) -> dict[str, Any]:
        """Return what `evaluate_finished` returns, without validation metrics: a simulated trial has no network to train again."""
        return {"test": SimulatedTrial.evaluate_finished(assignment, weights)["test"]}

    @staticmethod
    def previews(assignment: dict[str, Any]) -> dict[str, Any]:
        """Return an empty dictionary: there are no images."""
        return {}


def recorded_faults(folder: Root) -> list[FaultKind]:
    """Return the kinds of the faults that have happened in the trial with this folder, oldest first.

    Each is recorded just before it happens.
    """
    return read_json(folder, FAULTS_FILE) or []


def read_state(location: str) -> Any:
    """Return the state of a simulated trial at a path or URL; see `read_json`."""
    return read_json(*root_and_key(location))


def read_json(folder: Root, key: str) -> Any:
    """Return the value in a JSON file of a folder, or None if there is no such file. Raises ``DamagedError`` if the file is not JSON."""
    content = folder.read(key)
    try:
        return None if content is None else json.loads(content)
    except ValueError as error:
        raise DamagedError(f"{join(folder.location, key)} is not readable: {error}") from None


def write_json(folder: Root, key: str, value: Any) -> None:
    """Write a value as a JSON file into a folder, the whole file or nothing."""
    folder.write(key, json.dumps(value).encode())
