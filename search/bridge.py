"""The one object between Ray and Optuna: proposes trials, hears their epochs, writes everything about a trial, then tells it.

Ray's hooks come in this order for a trial: `suggest`, then for each epoch `heard`, then one of `on_trial_complete` or `broke`.
A told trial is immutable in Optuna, so nothing is told before all of it is written.
"""

import json
import math
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ParamSpec, TypeVar, cast

import optuna
import sqlalchemy
from optuna.artifacts import upload_artifact
from optuna.trial import FrozenTrial, TrialState
from ray import cloudpickle
from ray.tune import Callback
from ray.tune.experiment import Trial as RayTrial
from ray.tune.search import Searcher

from search.events import Event
from search.space import Space
from search.stopping import Ending, Rungs, Verdict
from search.store import artifact_store
from trainables.config import TrialConfig
from trainables.errors import ResourceError
from trainables.trainable import Assignment, progress

Result = TypeVar("Result")
Arguments = ParamSpec("Arguments")
PATIENCE_SECONDS = 120.0
KEPT_CHECKPOINTS = 3
LOST = ("ActorDiedError", "ActorUnavailableError", "RayActorError", "NodeDiedError", "WorkerCrashedError")


@dataclass
class Running:
    """An Optuna trial that Ray is running."""

    trial: optuna.Trial
    assignment: Assignment
    written: dict[str, Any] = field(default_factory=dict)
    reported: int = 0
    result: dict[str, Any] | None = None  # of its latest epoch
    failure: dict[str, str] | None = None
    began: float = field(default_factory=time.monotonic)


class Bridge(Searcher):
    """Optuna's side of a search, for Ray. `assign` makes a worker's assignment of a trial number and a configuration."""

    def __init__(
        self,
        study: optuna.Study,
        space: Space,
        assign: Callable[[int, TrialConfig], Assignment],
        *,
        ending: Ending,
        rungs: Rungs,
        folder: Path,
        watch: Callable[[Event], None],
    ) -> None:
        super().__init__(metric="objective", mode=rungs.mode)
        self._study, self._space, self._assign = study, space, assign
        self._ending, self._rungs, self._folder, self._watch = ending, rungs, folder, watch
        self._running: dict[str, Running] = {}
        self.verdicts: dict[int, Verdict] = {}
        past = study.get_trials(deepcopy=False)
        self._proposed = sum(trial.state != TrialState.WAITING for trial in past)
        self._interrupted = [trial for trial in past if trial.state == TrialState.RUNNING]
        for trial in past:
            self._replay(trial)

    def __getstate__(self) -> dict[str, Any]:
        """Leave the study behind: Ray pickles its searcher, and the record is in the storage anyway."""
        return {"_metric": self._metric, "_mode": self._mode}

    def save(self, checkpoint_path: str) -> None:
        """Keep nothing: a resumed search is a new one over the same study."""

    def restore(self, checkpoint_path: str) -> None:
        """Take nothing back, for the same reason."""

    # What Ray asks

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        """Return the next trial's configuration: an interrupted one first, else Optuna's proposal, until the search ends."""
        if self._interrupted and self._ending.reason() is None:
            frozen = self._interrupted.pop(0)
            trial = patiently(optuna.trial.Trial, self._study, frozen._trial_id)
            config = (
                TrialConfig.model_validate(frozen.user_attrs["config"]) if "config" in frozen.user_attrs else self._space.suggest(trial)
            )
        elif self._ending.may_propose(self._proposed):
            trial = patiently(self._study.ask)
            self._proposed += 1
            config = self._space.suggest(trial)
        else:
            return cast("dict[str, Any]", Searcher.FINISHED)
        assignment = self._assign(trial.number, config)
        running = self._running[trial_id] = Running(
            trial, assignment, reported=len(trial.storage.get_trial(trial._trial_id).intermediate_values)
        )
        self._write(
            running,
            ray_trial_id=trial_id,
            config=assignment.trial.model_dump(mode="json"),
            epochs_planned=assignment.trial.epochs,
            seed=assignment.trial.seed,
        )
        self._watch(Event("began", trial.number, assignment.trial, epoch=running.reported))
        return {"assignment": assignment.model_dump(mode="json")}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Ray leaves out a stopped trial's last result here; `heard` gets them all."""

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Tell Optuna how a trial ended; an error comes with its reason to `broke`."""
        running = self._running.get(trial_id)
        if error or running is None:
            return
        reason = self._ending.reason()
        last = running.result or {}
        if running.failure and running.failure["kind"] == "no space":
            self._ending.interrupt("no space left", ResourceError(running.failure["message"]))
            self._pause(trial_id, "no space left")
        elif running.failure:
            self._fail(trial_id, running.failure["kind"], running.failure["message"])
        elif last.get("epoch", 0) >= running.assignment.trial.epochs:
            self._tell(trial_id, TrialState.COMPLETE, "")
        elif running.trial.number in self.verdicts:
            self._tell(trial_id, TrialState.PRUNED, self.verdicts[running.trial.number].in_words(self._rungs.mode))
        elif self._ending.interrupted:
            self._pause(trial_id, self._ending.interrupted)
        elif reason and last:
            self._tell(trial_id, TrialState.PRUNED, f"budget: {reason}")
        else:
            self._fail(trial_id, "other", reason or "Ray ended the trial before it reported anything")

    # What Ray says

    def heard(self, trial_id: str, result: dict[str, Any]) -> None:
        """Write one epoch's report: every epoch of its history that is not yet in the record."""
        running = self._running[trial_id]
        if "failure" in result:
            running.failure = result["failure"]
            return
        running.result = result
        history, epochs = result["history"], running.assignment.trial.epochs
        self._write(running, history=history, epochs_done=result["epoch"])
        for epoch in range(running.reported + 1, result["epoch"] + 1):
            patiently(running.trial.report, history["objective"][epoch - 1], progress(epoch, epochs))
        running.reported = result["epoch"]
        self._watch(Event("epoch", running.trial.number, running.assignment.trial, epoch=result["epoch"], value=result["objective"]))

    def broke(self, trial_id: str, text: str) -> None:
        """Write that a trial failed after its retries, with Ray's account of the error."""
        if trial_id in self._running:
            kind = "lost worker" if any(name in text for name in LOST) else "other"
            self._fail(trial_id, kind, text)

    def close(self) -> None:
        """After a search that Ray ended by itself: no trial stays RUNNING unless it was interrupted and can be resumed."""
        for trial_id in list(self._running):
            if self._ending.interrupted:
                self._pause(trial_id, self._ending.interrupted)
            else:
                self._fail(trial_id, "other", "the search ended before the trial did")

    # How it is written

    def _replay(self, trial: FrozenTrial) -> None:
        planned = trial.user_attrs.get("config", {})
        if trial.state == TrialState.COMPLETE and trial.value is not None:
            self._ending.completed(trial.value)
        for step, value in sorted(trial.intermediate_values.items()):
            epochs = planned["epochs"]
            self._rungs.observe(trial.number, epoch=round(step * epochs / 1000), epochs=epochs, warmup=planned["warmup"], value=value)

    def _write(self, running: Running, **attributes: Any) -> None:
        for name, value in attributes.items():
            if running.written.get(name) != value:
                patiently(running.trial.set_user_attr, name, value)
                running.written[name] = value

    def _close_record(self, running: Running, reason: str) -> None:
        last = running.result or {}
        facts = last.get("facts", {})
        if "history" in last:
            self._write(running, history={"artifact": self._upload_history(running.trial, last["history"])})
        gpus = facts.get("seconds_total", 0.0) if str(facts.get("device", "")).startswith("cuda") else 0.0
        self._write(running, **facts, gpu_seconds=gpus, stop_reason=reason)

    def _upload_history(self, trial: optuna.Trial, history: dict[str, list[float]]) -> str:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "history.json"
            file.write_text(json.dumps(history))
            store = artifact_store(self._folder)
            return patiently(upload_artifact, artifact_store=store, file_path=str(file), study_or_trial=trial)

    def _tell(self, trial_id: str, state: TrialState, reason: str) -> None:
        running = self._running.pop(trial_id)
        assert running.result is not None
        value = float(running.result["objective"])
        self._close_record(running, reason)
        if state == TrialState.COMPLETE:
            patiently(self._study.tell, running.trial.number, value, skip_if_finished=True)
            self._ending.completed(value)
        else:
            patiently(self._study.tell, running.trial.number, state=state, skip_if_finished=True)
        self._retain()
        self._say("finished" if state == TrialState.COMPLETE else "stopped", running, reason)

    def _fail(self, trial_id: str, kind: str, message: str) -> None:
        running = self._running.pop(trial_id)
        self._close_record(running, f"{kind}: {summary(message)}")
        self._write(running, error={"kind": kind, "message": summary(message), "traceback": message})
        patiently(self._study.tell, running.trial.number, state=TrialState.FAIL, skip_if_finished=True)
        self._retain()
        self._say("failed", running, f"{kind}: {summary(message)}")

    def _pause(self, trial_id: str, reason: str) -> None:
        self._say("paused", self._running.pop(trial_id), reason)

    def _say(self, kind: str, running: Running, reason: str) -> None:
        last = running.result or {}
        value = last.get("objective")
        event = Event(
            kind,
            running.trial.number,
            running.assignment.trial,
            epoch=last.get("epoch", 0),
            value=value if value is not None and math.isfinite(value) else None,
            reason=reason,
            seconds=time.monotonic() - running.began,
        )
        self._watch(event)

    def _retain(self) -> None:
        trials = self._study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL))
        for path in disposable(trials, self._rungs.mode):
            path.unlink(missing_ok=True)


class Ear(Callback):
    """Passes on what Ray tells its callbacks and not its searcher."""

    def __init__(self, bridge: Bridge) -> None:
        self._bridge = bridge

    def on_trial_result(self, iteration: int, trials: list[RayTrial], trial: RayTrial, result: dict[str, Any], **info: Any) -> None:
        """Every report, the last one of a stopped trial included."""
        self._bridge.heard(trial.trial_id, result)

    def on_trial_error(self, iteration: int, trials: list[RayTrial], trial: RayTrial, **info: Any) -> None:
        """A failure after the last retry."""
        self._bridge.broke(trial.trial_id, account(trial))


def account(trial: RayTrial) -> str:
    """Return a trial's last error from the folder where this process has just put it; it reaches the trial's storage only later."""
    try:
        with open(trial.pickled_error_file or "", "rb") as file:
            error = cloudpickle.load(file)
    except OSError:
        return "Ray gave no reason"
    return f"{type(error).__name__}: {error}"


def disposable(trials: Sequence[FrozenTrial], mode: str) -> list[Path]:
    """Return the checkpoints that nobody needs: of ended trials, all but the default recipe's and the best few's.

    While nothing has finished, the best of the stopped trials are kept.
    """
    sign = -1 if mode == "max" else 1
    ended = [t for t in trials if t.state in (TrialState.COMPLETE, TrialState.PRUNED) and t.value is not None]
    ranking = sorted(ended, key=lambda t: (t.state != TrialState.COMPLETE, sign * (t.value or 0.0), t.number))
    kept = {0} | {trial.number for trial in ranking[:KEPT_CHECKPOINTS]}
    return [Path(t.user_attrs["checkpoint"]) for t in trials if t.number not in kept and t.user_attrs.get("checkpoint")]


def summary(text: str) -> str:
    """Return the last line of an error's account that says something."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:500] if lines else "no reason given"


def patiently(write: Callable[Arguments, Result], *args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
    """Do a storage write, again with growing pauses while the database is away, for up to two minutes."""
    deadline, pause = time.monotonic() + PATIENCE_SECONDS, 0.1
    while True:
        try:
            return write(*args, **kwargs)
        except (sqlalchemy.exc.OperationalError, optuna.exceptions.StorageInternalError):
            if time.monotonic() > deadline:
                raise
            time.sleep(pause)
            pause = min(pause * 2, 5.0)
