"""The record as plain values: storage → `StudyRecord`, `TrialRecord`; read-only, light to import, true while a search runs."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from search.lease import alive as driver_lives
from search.store import artifact_place, load_study, open_storage, storage_errors, trial_folder
from trainables.account import read_account
from trainables.errors import StorageError
from trainables.roots import Root, join

WRITTEN = {"config", "dataset", "metric", "folder", "versions"}
STATES = ("finished", "stopped", "failed", "running", "queued", "paused")
NOTE = "note:"
"""What the names of notes among a study's attributes begin with."""
History = Mapping[str, list[float]]


@dataclass(frozen=True)
class TrialRecord:
    """One trial: what was tried, what came of it, and why it ended."""

    number: int
    state: str
    value: float | None
    params: Mapping[str, Any]
    config: Mapping[str, Any]
    epochs_planned: int
    epochs_done: int
    objective_epoch: int
    stop_reason: str
    error: Mapping[str, str] | None
    intermediate: Mapping[int, float]
    attributes: Mapping[str, Any]
    started: datetime | None
    ended: datetime | None
    root: str

    @cached_property
    def history(self) -> History:
        """Every metric of every epoch, columnar; from the attribute while the trial runs, from its artifact afterwards."""
        held = self.attributes.get("history", {})
        if "artifact" not in held:
            return held  # type: ignore[no-any-return]
        return self._artifact("history", held["artifact"])  # type: ignore[no-any-return]

    @cached_property
    def account(self) -> Mapping[str, Any]:
        """What the trial tells of itself, `log` and `pictures`: its artifact, or, while it is open, the file beside its state.

        Empty where it has reported no epoch.
        """
        linked = self.attributes.get("account")
        if linked is not None:
            return self._artifact("account", linked)  # type: ignore[no-any-return]
        return read_account(trial_folder(self.root, self.number))

    def _artifact(self, what: str, artifact: str) -> Any:
        place = artifact_place(self.root)
        found = Root(place).read(artifact)
        if found is None:
            raise StorageError(f"the {what} of trial {self.number} is not at {join(place, artifact)}: it was removed")
        return json.loads(found)

    @property
    def is_default_recipe(self) -> bool:
        """Whether this is trial 0, the default recipe."""
        return self.number == 0


@dataclass(frozen=True)
class StudyRecord:
    """One search and all that came of it. `openings` tells each time that the test images were opened: the winner and the trials then."""

    name: str
    state: str
    why: str
    metric: str
    mode: str
    trials: tuple[TrialRecord, ...]
    config: Mapping[str, Any]
    dataset: Mapping[str, Any]
    versions: Mapping[str, str]
    test: Mapping[str, Any]
    openings: tuple[Mapping[str, Any], ...]
    folder: Path
    root: str
    seconds: float
    parameters: Mapping[str, Mapping[str, str]]
    space: Mapping[str, str]
    augmentation: Mapping[str, Any]
    cluster: Mapping[str, Any]
    notes: tuple[Mapping[str, Any], ...]

    @cached_property
    def counts(self) -> dict[str, int]:
        """Trials by state."""
        counted = Counter(trial.state for trial in self.trials)
        return {state: counted[state] for state in STATES}

    @cached_property
    def ranking(self) -> tuple[TrialRecord, ...]:
        """Finished trials, the best first; where none finished, the stopped ones."""
        for state in ("finished", "stopped"):
            found = [t for t in self.trials if t.state == state and t.value is not None]
            if found:
                return tuple(sorted(found, key=lambda t: ((t.value or 0.0) * (-1 if self.mode == "max" else 1), t.number)))
        return ()

    @property
    def best(self) -> TrialRecord | None:
        """The best trial, if one has ended."""
        return self.ranking[0] if self.ranking else None

    @property
    def default_recipe(self) -> TrialRecord | None:
        """Trial 0, if it has begun."""
        return self.trials[0] if self.trials else None

    def status_json(self) -> dict[str, Any]:
        """Return what `status --json` promises."""
        return {
            "study": self.name,
            "state": self.state,
            "metric": self.metric,
            "mode": self.mode,
            "trials": self.counts,
            "epochs": sum(trial.epochs_done for trial in self.trials),
            "seconds": round(self.seconds, 1),
            "why": self.why,
            "best_trial": None if self.best is None else {"trial": self.best.number, "value": self.best.value},
            "failures": [{"trial": trial.number, "reason": trial.stop_reason} for trial in self.trials if trial.state == "failed"],
        }

    def best_json(self) -> dict[str, Any]:
        """Return what `best --json` promises. Raises ``StorageError`` if no trial has ended."""
        best, default = self.best, self.default_recipe
        if best is None or default is None:
            raise StorageError(f"no trial of {self.name!r} has ended yet; look again later: injerto status {self.name}")
        return {
            "study": self.name,
            "trial": best.number,
            "metric": self.metric,
            "value": best.value,
            "epoch": best.objective_epoch,
            "params": dict(best.config),
            "test": self.test.get("winner", {}).get("test", {}),
            "default_recipe": {"value": default.value, "test": self.test.get("default_recipe", {}).get("test", {})},
        }


def read_study(name: str | None = None, storage: str | None = None) -> StudyRecord:
    """Read a study, the latest by default. Raises ``StorageError`` if there is none."""
    with storage_errors(storage):
        return study_record(load_study(open_storage(storage), name))


def study_record(study: optuna.Study) -> StudyRecord:
    """Return a study as plain values."""
    return StudyReader(study).read()


class StudyReader:
    """Reads a study again and again; what has ended is read once. For one thread at a time."""

    def __init__(self, study: optuna.Study) -> None:
        self._study = study
        self._ended: dict[int, TrialRecord] = {}

    @property
    def study(self) -> optuna.Study:
        """The study in Optuna's own terms, for its own evaluators."""
        return self._study

    def read(self) -> StudyRecord:
        """Return the study as it is now. Raises ``StorageError`` for one that is not ours."""
        attributes = self._study.user_attrs
        if not set(attributes) >= WRITTEN:
            raise StorageError(f"the study {self._study.study_name!r} was not made by injerto")
        status = attributes.get("status", {})
        alive = driver_lives(attributes)
        root = attributes.get("root", attributes["folder"])
        state = status.get("state", "running")
        return StudyRecord(
            name=self._study.study_name,
            state=state if state != "running" or alive else "interrupted",
            why=status.get("why", ""),
            metric=attributes["metric"],
            mode="max" if self._study.direction == optuna.study.StudyDirection.MAXIMIZE else "min",
            trials=tuple(self._trial(trial, root, alive) for trial in self._study.get_trials(deepcopy=False)),
            config=attributes["config"],
            dataset=attributes["dataset"],
            versions=attributes["versions"],
            test=attributes.get("test", {}),
            openings=tuple(attributes.get("openings", ())),
            folder=Path(attributes["folder"]),
            root=root,
            seconds=_seconds(attributes, alive),
            parameters=attributes.get("parameters", {}),
            space=attributes.get("space", {}),
            augmentation=attributes.get("augmentation", {}),
            cluster=attributes.get("cluster", {}),
            notes=tuple(sorted((value for key, value in attributes.items() if key.startswith(NOTE)), key=lambda note: note["at"])),
        )

    def _trial(self, trial: FrozenTrial, root: str, alive: bool) -> TrialRecord:
        found = self._ended.get(trial.number)
        if found is None:
            found = _trial(trial, root, alive)
            if trial.state.is_finished():
                self._ended[trial.number] = found
        return found


def _seconds(attributes: Mapping[str, Any], alive: bool) -> float:
    status = attributes.get("status", {})
    if status.get("state") != "running":
        return float(status.get("used_seconds", 0.0))
    if alive:
        return float(status["used_seconds"]) + datetime.now().timestamp() - datetime.fromisoformat(status["since"]).timestamp()
    return float(attributes.get("heartbeat", status).get("used_seconds", 0.0))


def _trial(trial: FrozenTrial, root: str, alive: bool) -> TrialRecord:
    attributes = trial.user_attrs
    state = {
        TrialState.COMPLETE: "finished",
        TrialState.PRUNED: "stopped",
        TrialState.FAIL: "failed",
        TrialState.WAITING: "queued",
        TrialState.RUNNING: "running" if alive else "paused",
    }[trial.state]
    last = max(trial.intermediate_values, default=None)
    return TrialRecord(
        number=trial.number,
        state=state,
        value=trial.value if trial.value is not None else trial.intermediate_values[last] if last is not None else None,
        params=trial.params,
        config=attributes.get("config", {}),
        epochs_planned=attributes.get("epochs_planned", 0),
        epochs_done=len(trial.intermediate_values),
        objective_epoch=attributes.get("objective_epoch", len(trial.intermediate_values)),
        stop_reason=attributes.get("stop_reason", ""),
        error=attributes.get("error"),
        intermediate=trial.intermediate_values,
        attributes=attributes,
        started=trial.datetime_start,
        ended=trial.datetime_complete,
        root=root,
    )
