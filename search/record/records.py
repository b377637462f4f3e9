"""The record of a search as plain values: `StudyRecord` and its `TrialRecord`s. Read-only, and light to import."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from search.record.artifacts import artifact_location, trial_folder
from trainables.errors import StorageError
from trainables.objectives import sign
from trainables.storage.locations import join
from trainables.storage.root import Root
from trainables.worker.trial_report import read_trial_report

STATES = ("finished", "stopped", "failed", "running", "queued", "paused")
NOTE_PREFIX = "note:"
"""Prefix of the study attributes that hold notes."""
History = Mapping[str, list[float]]
"""Metric → its value after each epoch, from the first epoch on."""


@dataclass(frozen=True)
class TrialRecord:
    """One trial: its configuration, its values, and why it ended. `state` is one of `STATES`.

    `value` is the latest objective, None before the first epoch; its weights are those of the epoch `objective_epoch`. `params` are
    Optuna's parameters, `config` all fields of the trial's configuration. `intermediate` maps the share of the planned epochs that was
    done, in per mille, to the objective. `error` (of a failed trial) has `kind`, `message` and `traceback`. `attributes` are Optuna's user
    attributes, `root` is the study's.
    """

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

    @property
    def unfinished(self) -> str:
        """How far a stopped trial came, such as ``stopped after epoch 1 of 4``; empty for others."""
        return f"stopped after epoch {self.epochs_done} of {self.epochs_planned}" if self.state == "stopped" else ""

    @cached_property
    def history(self) -> History:
        """Metric → its value after each epoch. Read from an attribute while the trial runs, from an artifact after its end.

        Raises ``StorageError`` if the artifact is missing or damaged.
        """
        recorded = self.attributes.get("history", {})
        if "artifact" not in recorded:
            return recorded  # type: ignore[no-any-return]
        return self._read_artifact("history", recorded["artifact"])  # type: ignore[no-any-return]

    @cached_property
    def report(self) -> Mapping[str, Any]:
        """The trial report: `log` (lines) and `pictures` (diagnostics of the network, or None); empty before the first epoch.

        Read from an artifact after the trial's end, before from a file beside its checkpoint. Raises ``StorageError`` if the artifact is
        missing, or if artifact or file is damaged.
        """
        artifact = self.attributes.get("account")
        if artifact is not None:
            return self._read_artifact("report", artifact)  # type: ignore[no-any-return]
        return read_trial_report(trial_folder(self.root, self.number))

    def _read_artifact(self, what: str, artifact: str) -> Any:
        location = artifact_location(self.root)
        content = Root(location).read(artifact)
        if content is None:
            raise StorageError(f"the {what} of trial {self.number} is not at {join(location, artifact)}: it was removed")
        try:
            return json.loads(content)
        except ValueError as error:
            raise StorageError(f"the {what} of trial {self.number} at {join(location, artifact)} is not readable: {error}") from None

    @property
    def is_default_recipe(self) -> bool:
        """Whether this is trial 0, the default recipe."""
        return self.number == 0


@dataclass(frozen=True)
class StudyRecord:
    """One search and its trials. `state` is ``running``, ``interrupted``, ``finished`` or ``failed``, and `why` says why it ended or will.

    `trials` are in the order of their numbers. `seconds` is how long the search has run. `test` maps a role (``winner``,
    ``default_recipe``, ``refit``) to its trial and its metrics on the test split. `test_evaluations` lists each evaluation of that split:
    the number of the winner and how many trials there were. `parameters` has each parameter's field and range in Optuna's JSON, `space` its
    range as text. `cluster` has the latest nodes and their load. `identity` is unique, also among studies of one name.
    """

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
    test_evaluations: tuple[Mapping[str, Any], ...]
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
        """Each of `STATES` → number of trials in it."""
        counted = Counter(trial.state for trial in self.trials)
        return {state: counted[state] for state in STATES}

    @cached_property
    def ranking(self) -> tuple[TrialRecord, ...]:
        """The finished trials, best first; if none finished, the stopped trials that have a value. Of equal trials the earlier is first."""
        for state in ("finished", "stopped"):
            candidates = [t for t in self.trials if t.state == state and t.value is not None]
            if candidates:
                return tuple(sorted(candidates, key=lambda t: (-sign(self.mode) * (t.value or 0.0), t.number)))
        return ()

    @property
    def best(self) -> TrialRecord | None:
        """The first trial of `ranking`, None if no trial has finished or was stopped."""
        return self.ranking[0] if self.ranking else None

    @property
    def default_recipe(self) -> TrialRecord | None:
        """Trial 0, which may still be queued; None if the study has no trial."""
        return self.trials[0] if self.trials else None

    def status_json(self) -> dict[str, Any]:
        """Return what `injerto status --json` prints: state, counts of trials, epochs, seconds, best trial and failures, as JSON values."""
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
        """Return what `injerto best --json` prints: the best trial, its value, configuration and test metrics, and the default recipe's.

        ``unfinished`` is empty or says how far the best trial came; ``exported`` are the test metrics of the network in `best.safetensors`.
        Raises ``StorageError`` if no trial has finished or was stopped.
        """
        best, default = self.best, self.default_recipe
        if best is None or default is None:
            raise StorageError(f"no trial of {self.name!r} has ended yet; look again later: injerto status {self.name}")
        return {
            "study": self.name,
            "trial": best.number,
            "metric": self.metric,
            "value": best.value,
            "epoch": best.objective_epoch,
            "unfinished": best.unfinished,
            "params": dict(best.config),
            "test": self.test.get("winner", {}).get("test", {}),
            "exported": (self.test.get("refit") or self.test.get("winner", {})).get("test", {}),
            "default_recipe": {"value": default.value, "test": self.test.get("default_recipe", {}).get("test", {})},
        }
