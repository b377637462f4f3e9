"""The record as plain values: storage → `StudyRecord`, `TrialRecord`; read-only, light to import, true while a search runs."""

import json
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy
from optuna.distributions import json_to_distribution
from optuna.storages._rdb.models import TrialModel
from optuna.trial import FrozenTrial, TrialState, create_trial

from search.record.lease import alive as driver_lives
from search.record.store import artifact_place, load_study, open_storage, storage_errors, trial_folder
from trainables.errors import StorageError
from trainables.storage.locations import Root, join
from trainables.worker.trial_report import read_trial_report

WRITTEN = {"config", "dataset", "metric", "folder", "versions"}
STATES = ("finished", "stopped", "failed", "running", "queued", "paused")
AT_A_TIME = 500
"""Trials that are read at once; a database allows a query so many values."""
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
        return read_trial_report(trial_folder(self.root, self.number))

    def _artifact(self, what: str, artifact: str) -> Any:
        place = artifact_place(self.root)
        found = Root(place).read(artifact)
        if found is None:
            raise StorageError(f"the {what} of trial {self.number} is not at {join(place, artifact)}: it was removed")
        try:
            return json.loads(found)
        except ValueError as error:
            raise StorageError(f"the {what} of trial {self.number} at {join(place, artifact)} is not readable: {error}") from None

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
    identity: str | None = None

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
    """Return a study as plain values. Raises ``StorageError`` for one that is not ours."""
    attributes, alive, root = _described(study)
    return _record(study, attributes, alive, (_trial(trial, root, alive) for trial in study.get_trials(deepcopy=False)))


class StudyReader:
    """Reads a study again and again, what has ended once. For one thread at a time."""

    def __init__(self, study: optuna.Study) -> None:
        self._study = study
        self._backend: Any = getattr(
            study._storage, "_backend", study._storage
        )  # beneath Optuna's cache, which would keep all a second time
        self._trials: dict[int, TrialRecord] = {}
        self._open: set[int] = set()
        self._last = -1
        self._identity: str | None = None

    def read(self, progress: Callable[[int, int], None] | None = None) -> StudyRecord:
        """Return the study as it is now, and say meanwhile how many trials of how many have been read.

        Raises ``StorageError`` for one that is not ours.
        """
        attributes, alive, root = _described(self._study)
        if attributes.get("identity") != self._identity:  # a study of the same name was made anew, and databases use numbers again
            self._trials, self._open, self._last, self._identity = {}, set(), -1, attributes.get("identity")
        ids = sorted({*self._open, *self._newer()})
        for first in range(0, len(ids), AT_A_TIME):
            for trial in self._backend._get_trials(self._study._study_id, None, set(ids[first : first + AT_A_TIME]), sys.maxsize):
                self._trials[trial.number] = _trial(trial, root, alive)
                (self._open.discard if trial.state.is_finished() else self._open.add)(trial._trial_id)
            if progress is not None:
                progress(min(first + AT_A_TIME, len(ids)), len(ids))
        self._last = max(self._last, *ids, -1)
        return _record(self._study, attributes, alive, (self._trials[number] for number in sorted(self._trials)))

    def _newer(self) -> list[int]:
        newer = sqlalchemy.select(TrialModel.trial_id).where(TrialModel.study_id == self._study._study_id, TrialModel.trial_id > self._last)
        with self._backend.engine.connect() as connection:
            return list(connection.execute(newer).scalars())


def _described(study: optuna.Study) -> tuple[Mapping[str, Any], bool, str]:
    """Return a study's attributes, whether its driver lives, and where its artifacts are."""
    attributes = study.user_attrs
    if not set(attributes) >= WRITTEN:
        raise StorageError(f"the study {study.study_name!r} was not made by injerto")
    return attributes, driver_lives(attributes), attributes.get("root", attributes["folder"])


def _record(study: optuna.Study, attributes: Mapping[str, Any], alive: bool, trials: Iterable[TrialRecord]) -> StudyRecord:
    status = attributes.get("status", {})
    state = status.get("state", "running")
    return StudyRecord(
        name=study.study_name,
        state=state if state != "running" or alive else "interrupted",
        why=status.get("why", "") or (attributes.get("ends", "") if alive else ""),
        metric=attributes["metric"],
        mode="max" if study.direction == optuna.study.StudyDirection.MAXIMIZE else "min",
        trials=tuple(trials),
        config=attributes["config"],
        dataset=attributes["dataset"],
        versions=attributes["versions"],
        test=attributes.get("test", {}),
        openings=tuple(attributes.get("openings", ())),
        folder=Path(attributes["folder"]),
        root=attributes.get("root", attributes["folder"]),
        identity=attributes.get("identity"),
        seconds=_seconds(attributes, alive),
        parameters=attributes.get("parameters", {}),
        space=attributes.get("space", {}),
        augmentation=attributes.get("augmentation", {}),
        cluster=attributes.get("cluster", {}),
        notes=_notes(attributes),
    )


def _notes(attributes: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
    """Return the notes, oldest first; anybody may write to a study, so those of another shape are left out."""
    found = [value for name, value in attributes.items() if name.startswith(NOTE)]
    whole = [note for note in found if isinstance(note, Mapping) and {"text", "at"} <= set(note)]
    return tuple(sorted(whole, key=lambda note: str(note["at"])))


def in_optuna(record: StudyRecord, trials: Iterable[TrialRecord]) -> optuna.Study:
    """Return trials as a study of Optuna's in memory, for its own evaluators; open ones and failed ones are left out.

    Raises ``StorageError`` where the record, of an older version, does not tell the ranges of its parameters.
    """
    if not record.parameters:
        raise StorageError(
            f"{record.name!r} was recorded by an older version of injerto, which did not record the ranges of its parameters"
        )
    ranges = {name: json_to_distribution(about["range"]) for name, about in record.parameters.items()}
    study = optuna.create_study(direction="maximize" if record.mode == "max" else "minimize")
    study.add_trials(
        [
            create_trial(
                state=TrialState.COMPLETE if trial.state == "finished" else TrialState.PRUNED,
                value=trial.value,
                params=dict(trial.params),
                distributions={name: ranges[name] for name in trial.params},
                intermediate_values=dict(trial.intermediate),
            )
            for trial in trials
            if trial.state in ("finished", "stopped") and trial.value is not None
        ]
    )
    return study


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
