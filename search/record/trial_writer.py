"""Writes trials into the record, on the record writer's thread.

Optuna lets nobody change a trial after `study.tell`. So everything about a trial is written first, and `study.tell` comes last.
"""

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
from search.record.artifacts import artifact_store
from search.record.record_writer import RecordWriter
from trainables.storage.locations import join
from trainables.storage.root import Root, discard
from trainables.worker.assignment import Assignment, progress
from trainables.worker.trial_report import TRIAL_REPORT_FILE


@dataclass
class RunningTrial:
    """A trial that Ray runs or is about to run.

    `reported` counts the epochs that are in the record or queued for it. `history` maps a metric to its value after each epoch. `facts`
    come from the latest report: times, memory, node, checkpoint. `written` holds the attributes as last written. `outcome` is set if the
    trial ended before it could run: the state and the reason. `stop_request` is why a user stopped it. `report_artifact` is the id of its
    trial report's artifact, once it exists. `started` is on the monotonic clock.
    """

    trial: optuna.Trial
    assignment: Assignment
    reported: int
    history: dict[str, list[float]]
    facts: dict[str, Any] = field(default_factory=dict)
    failure: Fault | None = None
    retries: list[dict[str, Any]] = field(default_factory=list)
    written: dict[str, Any] = field(default_factory=dict)
    outcome: tuple[TrialState, str] | None = None
    stop_request: str | None = None
    report_artifact: str | None = None
    started: float = field(default_factory=time.monotonic)

    @property
    def number(self) -> int:
        """The trial's number in its study."""
        return self.trial.number

    @property
    def value(self) -> float | None:
        """The objective after the latest epoch, None before the first."""
        return self.history["objective"][-1] if self.history.get("objective") else None


class TrialWriter:
    """Writes the trials of a study. `root` is where its artifacts are stored, `gpus` the number of GPUs of each trial.

    All methods retry as `RecordWriter.with_retries` does, except `read_history`. `mode` is ``max`` or ``min``.
    """

    def __init__(self, study: optuna.Study, record_writer: RecordWriter, *, root: str, gpus: float, mode: str) -> None:
        self._study, self._record_writer, self._gpus, self._mode = study, record_writer, gpus, mode
        self._artifacts = artifact_store(root)

    def write(self, running: RunningTrial, **attributes: Any) -> None:
        """Write those of the given Optuna user attributes of a trial that have changed since they were last written."""
        for name, value in attributes.items():
            if running.written.get(name) != value:
                self._record_writer.with_retries(running.trial.set_user_attr, name, value)
                running.written[name] = value

    def write_epochs(
        self,
        running: RunningTrial,
        epochs: range,
        history: dict[str, list[float]],
        facts: dict[str, Any],
        verdict: Verdict | None,
    ) -> None:
        """Write history and facts, report the objective of each of `epochs` (1-based), then write a rung's verdict on the last one.

        The order matters for a crash in between: a resumed search can repeat a rung's decision from the values, if the verdict is missing.
        """
        self.write(running, history=history, facts=facts)
        for epoch in epochs:
            step = progress(epoch, running.assignment.trial.epochs)
            self._record_writer.with_retries(running.trial.report, history["objective"][epoch - 1], step)
        if verdict is not None:
            self.write(running, verdict=verdict.as_text(self._mode))

    def tell(self, running: RunningTrial, state: TrialState, reason: str, **attributes: Any) -> None:
        """Write everything about an ended trial, its history and its report as artifacts, and then call `study.tell`.

        A trial in the state COMPLETE must have a value. `attributes` are written as well. The report's file beside the checkpoint is
        deleted.
        """
        if running.history:
            self.write(running, history={"artifact": self._upload(running, "history.json", json.dumps(running.history).encode())})
        self._upload_report(running)
        gpu_seconds = self._gpus * running.facts.get("seconds_total", 0.0)
        self.write(running, **running.facts, epochs_done=running.reported, gpu_seconds=gpu_seconds, stop_reason=reason, **attributes)
        value = running.value if state == TrialState.COMPLETE else None
        told_state = state if value is None else None  # Optuna derives COMPLETE from a value
        self._record_writer.with_retries(self._study.tell, running.number, value, told_state, skip_if_finished=True)
        if running.report_artifact is not None:
            self._record_writer.with_retries(discard, join(running.assignment.folder, TRIAL_REPORT_FILE))

    def tell_failed(self, running: RunningTrial, fault: Fault) -> None:
        """Write everything about a failed trial as `tell` does, with its fault and its retries, and tell Optuna that it failed."""
        about = {"kind": fault.kind, "message": fault.message, "traceback": fault.traceback or fault.message}
        self.tell(running, TrialState.FAIL, fault.as_text(), error=about, retries=running.retries)

    def read_history(self, attributes: Mapping[str, Any]) -> dict[str, list[float]]:
        """Return the recorded history (metric → value after each epoch) of an open trial from its Optuna user attributes.

        It is in an artifact if the driver died just before `study.tell`. Raises ``ArtifactNotFound`` if that artifact is gone.
        """
        recorded = attributes.get("history", {})
        if "artifact" not in recorded:
            return dict(recorded)
        with self._artifacts.open_reader(recorded["artifact"]) as file:
            return cast("dict[str, list[float]]", json.load(file))

    def _upload_report(self, running: RunningTrial) -> None:
        """Store the trial report, which the worker has written beside the checkpoint, as an artifact, and write the artifact's id.

        Does nothing if there is no report.
        """
        folder = Root(running.assignment.folder)
        if running.report_artifact is None and (report := self._record_writer.with_retries(folder.read, TRIAL_REPORT_FILE)) is not None:
            running.report_artifact = self._upload(running, TRIAL_REPORT_FILE, report)
        if running.report_artifact is not None:
            self.write(running, account=running.report_artifact)

    def _upload(self, running: RunningTrial, name: str, content: bytes) -> str:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / name
            file.write_bytes(content)
            return self._record_writer.with_retries(
                upload_artifact, artifact_store=self._artifacts, file_path=str(file), study_or_trial=running.trial
            )
