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


@dataclass(frozen=True)
class TrialRecord:
    """One trial: its configuration, its values, and why it ended. `intermediate` maps progress in per mille to the objective."""

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
        """Metric → its value after each epoch. In an attribute while the trial runs, in an artifact after its end.

        Raises ``StorageError`` if the artifact is missing or damaged.
        """
        recorded = self.attributes.get("history", {})
        if "artifact" not in recorded:
            return recorded  # type: ignore[no-any-return]
        return self._read_artifact("history", recorded["artifact"])  # type: ignore[no-any-return]

    @cached_property
    def report(self) -> Mapping[str, Any]:
        """The `log` and `pictures` that the trial has written; empty before its first epoch.

        An artifact after the trial's end, a file beside its checkpoint before. Raises ``StorageError`` as `history` does.
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
    """One search and its trials. `test_evaluations` lists each evaluation of the test split: the winner, and how many trials there were."""

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
        """State → number of trials."""
        counted = Counter(trial.state for trial in self.trials)
        return {state: counted[state] for state in STATES}

    @cached_property
    def ranking(self) -> tuple[TrialRecord, ...]:
        """The finished trials, best first; the stopped trials if none finished."""
        for state in ("finished", "stopped"):
            candidates = [t for t in self.trials if t.state == state and t.value is not None]
            if candidates:
                return tuple(sorted(candidates, key=lambda t: (-sign(self.mode) * (t.value or 0.0), t.number)))
        return ()

    @property
    def best(self) -> TrialRecord | None:
        """The best trial, None if none has ended."""
        return self.ranking[0] if self.ranking else None

    @property
    def default_recipe(self) -> TrialRecord | None:
        """Trial 0, None if it has not begun."""
        return self.trials[0] if self.trials else None

    def status_json(self) -> dict[str, Any]:
        """Return what `injerto status --json` prints."""
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
        """Return what `injerto best --json` prints. Raises ``StorageError`` if no trial has ended."""
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
