"""Writes trials into the record, in the ledger's line. A told trial is immutable in Optuna, so nothing is told before all is written."""

import json
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import optuna
from optuna.artifacts import upload_artifact
from optuna.trial import TrialState

from search.policy.faults import Fault
from search.policy.rungs import Verdict
from search.record.record_writer import RecordWriter
from search.record.store import artifact_store
from trainables.storage.locations import Root, discard, join
from trainables.worker.trainable import Assignment, progress
from trainables.worker.trial_report import ACCOUNT


@dataclass
class Running:
    """A trial that Ray is running. `reported` counts the epochs that are in the record, or in line for it."""

    trial: optuna.Trial
    assignment: Assignment
    reported: int
    history: dict[str, list[float]]
    facts: dict[str, Any] = field(default_factory=dict)
    failure: Fault | None = None
    retries: list[dict[str, Any]] = field(default_factory=list)
    written: dict[str, Any] = field(default_factory=dict)
    outcome: tuple[TrialState, str] | None = None  # of one that ended before it could run
    asked: str | None = None  # why it was asked to stop
    account: str | None = None  # the artifact of its account, once there is one
    began: float = field(default_factory=time.monotonic)

    @property
    def number(self) -> int:
        """The trial's number in its study."""
        return self.trial.number

    @property
    def value(self) -> float | None:
        """The objective after its latest epoch."""
        return self.history["objective"][-1] if self.history.get("objective") else None


class TrialWriter:
    """Writes trials of a study; `root` is where its artifacts go, `gpus` each trial's share of GPUs."""

    def __init__(self, study: optuna.Study, record_writer: RecordWriter, *, root: str, gpus: float, mode: str) -> None:
        self._study, self._record_writer, self._gpus, self._mode = study, record_writer, gpus, mode
        self._artifacts = artifact_store(root)

    def write(self, running: Running, **attributes: Any) -> None:
        """Write what has changed of a trial's attributes."""
        for name, value in attributes.items():
            if running.written.get(name) != value:
                self._record_writer.patiently(running.trial.set_user_attr, name, value)
                running.written[name] = value

    def write_epochs(
        self,
        running: Running,
        first: int,
        last: int,
        history: dict[str, list[float]],
        facts: dict[str, Any],
        verdict: Verdict | None,
    ) -> None:
        """Write epochs, then what a rung said of the last one: without its word that is judged again, without its value it can't be."""
        self.write(running, history=history, facts=facts)
        for epoch in range(first, last + 1):
            step = progress(epoch, running.assignment.trial.epochs)
            self._record_writer.patiently(running.trial.report, history["objective"][epoch - 1], step)
        if verdict is not None:
            self.write(running, verdict=verdict.in_words(self._mode))

    def tell(self, running: Running, state: TrialState, reason: str, **attributes: Any) -> None:
        """Write all that is known of a trial, its account as an artifact, and only then tell how it ended."""
        if running.history:
            self.write(running, history={"artifact": self._upload(running, "history.json", json.dumps(running.history).encode())})
        self._link_account(running)
        gpu_seconds = self._gpus * running.facts.get("seconds_total", 0.0)
        self.write(running, **running.facts, epochs_done=running.reported, gpu_seconds=gpu_seconds, stop_reason=reason, **attributes)
        value = running.value if state == TrialState.COMPLETE else None
        self._record_writer.patiently(self._study.tell, running.number, value, None if value is not None else state, skip_if_finished=True)
        if running.account is not None:
            self._record_writer.patiently(discard, join(running.assignment.folder, ACCOUNT))

    def _link_account(self, running: Running) -> None:
        """Make an artifact of what the trial has written beside its state for people to look at."""
        folder = Root(running.assignment.folder)
        if running.account is None and (told := self._record_writer.patiently(folder.read, ACCOUNT)) is not None:
            running.account = self._upload(running, ACCOUNT, told)
        if running.account is not None:
            self.write(running, account=running.account)

    def tell_failed(self, running: Running, fault: Fault) -> None:
        """Tell that a trial failed, and of what."""
        about = {"kind": fault.kind, "message": fault.message, "traceback": fault.traceback or fault.message}
        self.tell(running, TrialState.FAIL, fault.in_words(), error=about, retries=running.retries)

    def _upload(self, running: Running, name: str, content: bytes) -> str:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / name
            file.write_bytes(content)
            return self._record_writer.patiently(
                upload_artifact, artifact_store=self._artifacts, file_path=str(file), study_or_trial=running.trial
            )

    def history_of(self, attributes: Mapping[str, Any]) -> dict[str, list[float]]:
        """Return a trial's history; that of one which was about to be told is in its artifact already."""
        held = attributes.get("history", {})
        if "artifact" not in held:
            return dict(held)
        with self._artifacts.open_reader(held["artifact"]) as file:
            return cast("dict[str, list[float]]", json.load(file))
