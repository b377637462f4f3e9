"""Reads a study from Optuna's storage as a `StudyRecord`, also while its search runs."""

import sys
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy
from optuna.storages._rdb.models import TrialModel
from optuna.trial import FrozenTrial, TrialState

from search.record.lease import driver_is_alive
from search.record.records import NOTE_PREFIX, StudyRecord, TrialRecord
from search.record.store import load_study, open_storage, storage_errors, study_mode
from trainables.errors import StorageError

REQUIRED_ATTRIBUTES = {"config", "dataset", "metric", "folder", "versions"}
TRIALS_PER_QUERY = 500
"""Databases limit the number of values in one query."""


def read_study(name: str | None = None, storage: str | None = None) -> StudyRecord:
    """Return the record of a study; of the latest if `name` is None, and from the default storage if `storage` is None.

    Raises ``StorageError`` if there is no such study, if injerto did not create it, or if the storage cannot be read.
    """
    with storage_errors(storage):
        return study_record(load_study(open_storage(storage), name))


def study_record(study: optuna.Study) -> StudyRecord:
    """Return the present record of a study. Raises ``StorageError`` if injerto did not create the study."""
    attributes, alive, root = _study_attributes(study)
    return _study_record(study, attributes, alive, (_trial_record(trial, root, alive) for trial in study.get_trials(deepcopy=False)))


class StudyReader:
    """Reads the same study repeatedly: each call of `read` asks the database only for new and open trials. Not thread-safe."""

    def __init__(self, study: optuna.Study) -> None:
        self._study = study
        # below Optuna's cache, which would keep a second copy of all trials in memory
        self._backend: Any = getattr(study._storage, "_backend", study._storage)
        self._trials: dict[int, TrialRecord] = {}
        self._open: set[int] = set()
        self._last = -1
        self._identity: str | None = None

    def read(self, on_progress: Callable[[int, int], None] | None = None) -> StudyRecord:
        """Return the present record of the study; `on_progress` gets the number of trials read in this call, and of trials to read.

        Raises ``StorageError`` if injerto did not create the study.
        """
        attributes, alive, root = _study_attributes(self._study)
        if attributes.get("identity") != self._identity:  # a new study of the same name, for which the database may reuse ids
            self._trials, self._open, self._last, self._identity = {}, set(), -1, attributes.get("identity")
        ids = sorted({*self._open, *self._new_trial_ids()})
        for first in range(0, len(ids), TRIALS_PER_QUERY):
            wanted = set(ids[first : first + TRIALS_PER_QUERY])
            for trial in self._backend._get_trials(self._study._study_id, None, wanted, sys.maxsize):
                self._trials[trial.number] = _trial_record(trial, root, alive)
                (self._open.discard if trial.state.is_finished() else self._open.add)(trial._trial_id)
            if on_progress is not None:
                on_progress(min(first + TRIALS_PER_QUERY, len(ids)), len(ids))
        self._last = max(self._last, *ids, -1)
        return _study_record(self._study, attributes, alive, (self._trials[number] for number in sorted(self._trials)))

    def _new_trial_ids(self) -> list[int]:
        query = sqlalchemy.select(TrialModel.trial_id).where(TrialModel.study_id == self._study._study_id, TrialModel.trial_id > self._last)
        with self._backend.engine.connect() as connection:
            return list(connection.execute(query).scalars())


def _study_attributes(study: optuna.Study) -> tuple[Mapping[str, Any], bool, str]:
    """Return a study's user attributes, whether its driver is alive, and the root of its checkpoints and artifacts.

    Raises ``StorageError`` if an attribute of `REQUIRED_ATTRIBUTES` is missing: injerto did not create the study.
    """
    attributes = study.user_attrs
    if not set(attributes) >= REQUIRED_ATTRIBUTES:
        raise StorageError(f"the study {study.study_name!r} was not made by injerto")
    return attributes, driver_is_alive(attributes), attributes.get("root", attributes["folder"])


def _study_record(study: optuna.Study, attributes: Mapping[str, Any], alive: bool, trials: Iterable[TrialRecord]) -> StudyRecord:
    status = attributes.get("status", {})
    state = status.get("state", "running")
    return StudyRecord(
        name=study.study_name,
        state=state if state != "running" or alive else "interrupted",
        why=status.get("why", "") or (attributes.get("ends", "") if alive else ""),
        metric=attributes["metric"],
        mode=study_mode(study),
        trials=tuple(trials),
        config=attributes["config"],
        dataset=attributes["dataset"],
        versions=attributes["versions"],
        test=attributes.get("test", {}),
        test_evaluations=tuple(attributes.get("openings", ())),
        folder=Path(attributes["folder"]),
        root=attributes.get("root", attributes["folder"]),
        identity=attributes.get("identity"),
        seconds=_seconds_used(attributes, alive),
        parameters=attributes.get("parameters", {}),
        space=attributes.get("space", {}),
        augmentation=attributes.get("augmentation", {}),
        cluster=attributes.get("cluster", {}),
        notes=_notes(attributes),
    )


def _notes(attributes: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
    """Return users' notes on the study, each with `text` and `at`, oldest first.

    Any program can write to a study, so values that are not notes are left out.
    """
    values = [value for name, value in attributes.items() if name.startswith(NOTE_PREFIX)]
    notes = [value for value in values if isinstance(value, Mapping) and {"text", "at"} <= set(value)]
    return tuple(sorted(notes, key=lambda note: str(note["at"])))


def _seconds_used(attributes: Mapping[str, Any], alive: bool) -> float:
    """Return for how many seconds the study has run, over all its drivers; up to the last heartbeat if the driver died."""
    status = attributes.get("status", {})
    if status.get("state") != "running":
        return float(status.get("used_seconds", 0.0))
    if alive:
        return float(status["used_seconds"]) + datetime.now().timestamp() - datetime.fromisoformat(status["since"]).timestamp()
    return float(attributes.get("heartbeat", status).get("used_seconds", 0.0))


def _trial_record(trial: FrozenTrial, root: str, alive: bool) -> TrialRecord:
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
