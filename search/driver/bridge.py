"""The one object between Ray and Optuna: proposes trials, hears their epochs, has everything about a trial written, then told.

Ray's hooks come in this order for a trial: `suggest`, then for each epoch `heard`, then `on_trial_complete`; `go_on` where a worker breaks.
They run in Ray's loop and only put jobs in the ledger's line, which does them in order: a proposal stands upon all that came before it.
What is written of a trial, and in which order, is the scribe's.
"""

import math
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, TimeoutError
from functools import partial
from typing import Any, cast

import optuna
from optuna.trial import FrozenTrial, TrialState
from ray.tune import Callback
from ray.tune.experiment import Trial as RayTrial
from ray.tune.search import Searcher

from search.driver.retention import Retention
from search.events import Event, Kind
from search.policy.faults import Fault, Faults, fault_of
from search.policy.rungs import Rungs, StopCondition, Verdict
from search.record.record_writer import RecordWriter
from search.record.trial_writer import Running, TrialWriter
from search.space.space import Space
from trainables.config import TrialConfig
from trainables.errors import InjertoError, ResourceError, StorageError
from trainables.storage.locations import Root, discard, split
from trainables.worker.trainable import Assignment

PROPOSAL_SECONDS = 0.2
"""How long Ray's loop waits for a proposal before it turns to its running trials again."""
PAUSING: dict[str, type[InjertoError]] = {"no space": ResourceError, "no storage": StorageError}
"""Kinds of failure that are not the trial's: the search pauses, and raises this once it has."""
STRANDED_SECONDS = 20.0
"""How long a search that is over waits for trials that have no worker."""


class Bridge(Searcher):
    """Optuna's side of a search, for Ray. `assign` makes a worker's assignment of a trial number, a configuration and its epochs so far."""

    def __init__(
        self,
        study: optuna.Study,
        space: Space,
        assign: Callable[[int, TrialConfig], Assignment],
        *,
        record_writer: RecordWriter,
        stop_condition: StopCondition,
        rungs: Rungs,
        retention: Retention,
        root: str,
        slots: int,
        gpus: float,
        halving: bool,
        watch: Callable[[Event], None],
    ) -> None:
        super().__init__(metric="objective", mode=rungs.mode)
        self._study, self._space, self._assign, self._record_writer = study, space, assign, record_writer
        self._stop_condition, self._rungs, self._retention, self._watch = stop_condition, rungs, retention, watch
        self._trial_writer = TrialWriter(study, record_writer, root=root, gpus=gpus, mode=rungs.mode)
        self._gpus, self._halving = gpus, halving
        self.slots = slots
        """Trials at a time; may change while the search runs, as nodes come and go."""
        self._faults = Faults()
        self._running: dict[str, Running] = {}
        self._proposal: Future[Running] | None = None
        self._asking = False
        self._lonely = time.monotonic()
        self._gpu_seconds: dict[int, float] = {}
        self._unheard: dict[int, Verdict] = {}
        self.verdicts: dict[int, Verdict] = {}
        self.usage: dict[str, dict[str, Any]] = {}
        """Node → how busy it is, as its trials told last."""
        past = study.get_trials(deepcopy=False)
        self._known = {trial.number for trial in past if trial.state != TrialState.WAITING}
        self._interrupted = [trial for trial in past if trial.state == TrialState.RUNNING]
        self._left: set[str] | None = set(Root(root).child("trials").names())
        for trial in sorted(past, key=lambda trial: (trial.datetime_complete is None, trial.datetime_complete, trial.number)):
            self._replay(trial)
        self._left = None

    def __getstate__(self) -> dict[str, Any]:
        """Leave the study behind: Ray pickles its searcher, and the record is in the storage anyway."""
        return {"_metric": self._metric, "_mode": self._mode}

    def save(self, checkpoint_path: str) -> None:
        """Keep nothing: a resumed search is a new one over the same study."""

    def restore(self, checkpoint_path: str) -> None:
        """Take nothing back, for the same reason."""

    # What Ray asks

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        """Return the next trial's configuration: an interrupted one first, else Optuna's proposal, until the search ends.

        None while all slots are taken, the proposal is not ready (the record may be waiting for its database), or trials may yet be added.
        """
        if len(self._running) >= self.slots and self._stop_condition.reason() is None:
            return None
        if self._proposal is None:
            if self._stop_condition.reason() is not None:
                return cast("dict[str, Any]", Searcher.FINISHED)
            if not (self._interrupted or self._stop_condition.may_propose(len(self._known))):
                return None if self._running else cast("dict[str, Any]", Searcher.FINISHED)  # while one runs, more may be added
            self._proposal = self._record_writer.put(self._resume_one if self._interrupted else self._propose)
        try:
            running = self._proposal.result(timeout=PROPOSAL_SECONDS)
        except TimeoutError:
            return cast("dict[str, Any]", Searcher.FINISHED) if self._stop_condition.reason() is not None else None
        except Exception:
            return cast("dict[str, Any]", Searcher.FINISHED)
        self._proposal = None
        if running.outcome is not None:
            self._ended_untried(running, *running.outcome)
            return None
        self._running[trial_id] = running
        running.began = time.monotonic()
        self._record_writer.put(lambda: self._trial_writer.write(running, ray_trial_id=trial_id))
        self._say("began", running)
        return {"assignment": running.assignment.model_dump(mode="json")}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Ray leaves out a stopped trial's last result here; `heard` gets them all."""

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Tell Optuna how a trial ended."""
        running = self._running.pop(trial_id, None)
        if running is None:
            return
        fault, reason = running.failure, self._stop_condition.reason()
        if fault is not None and fault.kind in PAUSING:
            self._stop_condition.interrupt(fault.in_words(), PAUSING[fault.kind](fault.message))
            self._say("paused", running, fault.in_words())
        elif fault is not None:
            self._fail(running, fault)
        elif running.reported >= running.assignment.trial.epochs:
            self._end(running, TrialState.COMPLETE, "")
        elif running.number in self.verdicts:
            self._end(running, TrialState.PRUNED, self.verdicts[running.number].in_words(self._rungs.mode))
        elif running.asked is not None:
            self._end(running, TrialState.PRUNED, running.asked)
        elif self._stop_condition.interrupted:
            self._say("paused", running, self._stop_condition.interrupted)
        elif reason:
            self._end(running, TrialState.PRUNED, f"budget: {reason}" if not self._stop_condition.hopeless else reason)
        else:
            self._fail(running, Fault("other", "Ray ended the trial before its last epoch"))

    # What Ray says

    def heard(self, trial_id: str, result: dict[str, Any]) -> None:
        """Put one epoch's report in line: every epoch of its history that is not yet in the record."""
        running = self._running[trial_id]
        if "failure" in result:
            running.failure = Fault(**result["failure"])
            return
        if not math.isfinite(result.get("objective", math.nan)):
            running.failure = Fault("non-finite", f"the trial reported {result.get('objective', 'no objective')} as its objective")
            return
        running.facts = result["facts"]
        if "usage" in running.facts:
            self.usage[running.facts["node"]] = running.facts["usage"]
        if result["epoch"] <= running.reported:  # a worker that took over from a lost one says where it stands
            return
        first, running.reported = running.reported + 1, result["epoch"]
        running.history = result["history"]
        self._charge(running.number, running.facts)
        self._discard(self._retention.size(running.number, running.facts.get("checkpoint_bytes", 0)))
        verdict = self.verdicts.get(running.number)
        self._record_writer.put(
            lambda: self._trial_writer.write_epochs(running, first, result["epoch"], result["history"], result["facts"], verdict)
        )
        self._say("epoch", running)
        if (short := self._retention.short()) is not None:
            self._stop_condition.interrupt("no space left", ResourceError(short))

    def go_on(self, trial_id: str, error: BaseException) -> bool:
        """Say whether a trial whose worker broke is tried again, from its last epoch."""
        running = self._running.get(trial_id)
        if running is None:
            return False
        fault = fault_of(error)
        running.retries.append({"kind": fault.kind, "message": fault.message, "epoch": running.reported, "node": running.facts.get("node")})
        if not self._faults.may_retry(running.number, running.reported, fault):
            running.failure = fault
            return False
        retries = list(running.retries)
        self._record_writer.put(lambda: self._trial_writer.write(running, retries=retries))
        self._say("retry", running, f"{fault.in_words()}; it goes on after epoch {running.reported}")
        return True

    def stop_trial(self, number: int, why: str) -> bool:
        """Ask a trial to end at its next epoch; say whether there is such a one. From any thread."""
        for trial_id, running in list(self._running.items()):
            if running.number == number:
                running.asked = why
                self._stop_condition.asked.add(trial_id)
                return True
        return False

    def look(self, running: bool) -> None:
        """Note whether any trial has a worker: a search that is over does not wait for those that have none."""
        if running or not self._running or self._stop_condition.reason() is None:
            self._lonely = time.monotonic()
        self._stop_condition.stranded = time.monotonic() - self._lonely > STRANDED_SECONDS

    def live(self, trial_id: str) -> bool:
        """Say whether a trial has not yet ended."""
        return trial_id in self._running

    def close(self) -> None:
        """After Ray's loop: no trial stays RUNNING unless it was interrupted and can be resumed."""
        if self._proposal is not None:
            self._record_writer.put(self._withdraw(self._proposal))
        for trial_id in list(self._running):
            if self._stop_condition.reason() is not None:
                self.on_trial_complete(trial_id)
            else:
                self._fail(self._running.pop(trial_id), Fault("other", "the search ended before the trial did"))
        if not self._stop_condition.interrupted:
            self._record_writer.put(self._leave_none_open)

    # What the ledger does

    def _resume_one(self) -> Running:
        """Reattach the next interrupted trial; one that had ended, but could not be told, is told now."""
        frozen = self._interrupted.pop(0)
        running = self._reattached(frozen)
        running.outcome = self._outcome(running, frozen)
        if running.outcome is not None:
            self._trial_writer.tell(running, *running.outcome)
        return running

    def _reattached(self, frozen: FrozenTrial) -> Running:
        return self._running_of(optuna.trial.Trial(self._study, frozen._trial_id), frozen)

    def _outcome(self, running: Running, frozen: FrozenTrial) -> tuple[TrialState, str] | None:
        """Return how an open trial ended by what is recorded of it, None where it has epochs to go."""
        if running.reported >= running.assignment.trial.epochs:
            return TrialState.COMPLETE, ""
        verdict = frozen.user_attrs.get("verdict")
        if verdict is None and running.number in self._unheard:
            verdict = self._unheard[running.number].in_words(self._rungs.mode)
        return (TrialState.PRUNED, verdict) if verdict is not None else None

    def _propose(self) -> Running:
        """Ask Optuna for a trial; one whose configuration is not worth another try fails at once."""
        running = self._running_of(self._record_writer.patiently(self._ask))
        refusal = self._faults.refusal(running.written["config"])
        if refusal is not None:
            fault = Fault("not tried", refusal)
            running.outcome = TrialState.FAIL, fault.in_words()
            self._trial_writer.tell_failed(running, fault)
        return running

    def _ask(self) -> optuna.Trial:
        """Ask for a trial, or take up the one that an attempt which the database cut short has left."""
        open_trials = self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)) if self._asking else []
        left = [trial for trial in open_trials if trial.number not in self._known]
        self._asking = True
        trial = optuna.trial.Trial(self._study, left[0]._trial_id) if left else self._study.ask()
        self._space.suggest(trial)
        self._known.add(trial.number)
        self._asking = False
        return trial

    def _running_of(self, trial: optuna.Trial, frozen: FrozenTrial | None = None) -> Running:
        attributes = frozen.user_attrs if frozen else {}
        config = TrialConfig.model_validate(attributes["config"]) if "config" in attributes else self._space.suggest(trial)
        reported = len(frozen.intermediate_values) if frozen else 0
        assignment = self._assign(trial.number, config).model_copy(update={"reported": reported})
        history, facts = self._trial_writer.history_of(attributes), attributes.get("facts", {})
        retries, account = list(attributes.get("retries", [])), attributes.get("account")
        running = Running(trial, assignment, reported, history, facts, retries=retries, account=account)
        planned = assignment.trial
        self._trial_writer.write(running, config=planned.model_dump(mode="json"), epochs_planned=planned.epochs, seed=planned.seed)
        return running

    def _withdraw(self, proposal: "Future[Running]") -> Callable[[], None]:
        """A proposal that came too late waits for a resume, or is told that the search was over."""

        def job() -> None:
            running = None if proposal.exception() else proposal.result()
            if running is not None and running.outcome is None and not self._stop_condition.interrupted:
                self._trial_writer.tell(running, TrialState.PRUNED, f"budget: {self._stop_condition.reason()}")

        return job

    def _leave_none_open(self) -> None:
        """Tell the trials that wait for a resume, now that the budget is over, and any that Ray has lost."""
        reason = self._stop_condition.reason()
        for frozen in self._record_writer.patiently(self._study.get_trials, deepcopy=False, states=(TrialState.RUNNING,)):
            running = self._reattached(frozen)
            over = (TrialState.PRUNED, f"budget: {reason}") if reason else None
            if (outcome := self._outcome(running, frozen) or over) is not None:
                self._trial_writer.tell(running, *outcome)
            else:
                self._trial_writer.tell_failed(running, Fault("other", "the driver lost sight of the trial"))

    # How trials end

    def _replay(self, trial: FrozenTrial) -> None:
        planned = trial.user_attrs.get("config", {})
        fault = Fault(**trial.user_attrs["error"]) if trial.state == TrialState.FAIL and "error" in trial.user_attrs else None
        self._charge(trial.number, trial.user_attrs.get("facts", {}))
        if trial.state == TrialState.COMPLETE and trial.value is not None:
            self._stop_condition.completed(trial.value)
        elif trial.state == TrialState.PRUNED:
            self._stop_condition.stopped()
        elif trial.state == TrialState.FAIL:
            self._stop_condition.failed()
        if trial.state in (TrialState.COMPLETE, TrialState.PRUNED):
            self._faults.ended_well()
        self._replay_rungs(trial, planned)
        if fault is not None and fault.kind != "not tried":
            self._faults.failed(planned, fault, tries=tries(fault, trial.user_attrs.get("retries", [])))
        if trial.state.is_finished():
            self._release(trial.number, trial.state, trial.value if fault is None else None, trial.user_attrs)

    def _replay_rungs(self, trial: FrozenTrial, planned: Mapping[str, Any]) -> None:
        """Enter a trial's epochs; the last one of an open trial may have been recorded before a rung could be asked."""
        values, verdict = sorted(trial.intermediate_values.items()), None
        for step, value in values:
            epoch = round(step * planned["epochs"] / 1000)
            verdict = self._rungs.observe(trial.number, epoch=epoch, epochs=planned["epochs"], warmup=planned["warmup"], value=value)
        if self._halving and verdict is not None and trial.state == TrialState.RUNNING:
            self._unheard[trial.number] = verdict

    def _ended_untried(self, running: Running, state: TrialState, reason: str) -> None:
        """Take note of a trial that was told before it could run."""
        if state == TrialState.FAIL:
            self._stop_condition.failed()
            self._say("failed", running, reason)
        else:
            self._take_note(running, state, reason)

    def _end(self, running: Running, state: TrialState, reason: str) -> None:
        self._record_writer.put(lambda: self._trial_writer.tell(running, state, reason))
        self._take_note(running, state, reason)

    def _take_note(self, running: Running, state: TrialState, reason: str) -> None:
        value, finished = running.value, state == TrialState.COMPLETE
        self._faults.ended_well()
        if finished and value is not None:
            self._stop_condition.completed(value)
        else:
            self._stop_condition.stopped()
        self._release(running.number, state, value, running.facts)
        self._say("finished" if finished else "stopped", running, reason)

    def _fail(self, running: Running, fault: Fault) -> None:
        self._stop_condition.failed()
        self._faults.failed(running.assignment.trial.model_dump(mode="json"), fault, tries=tries(fault, running.retries))
        self._record_writer.put(lambda: self._trial_writer.tell_failed(running, fault))
        self._release(running.number, TrialState.FAIL, None, running.facts)
        self._say("failed", running, fault.in_words())
        if self._faults.hopeless() and not any(other.reported for other in self._running.values()):
            self._stop_condition.give_up(f"the first trials all failed alike ({fault.in_words()})")

    def _release(self, number: int, state: TrialState, value: float | None, facts: Mapping[str, Any]) -> None:
        """Remove the states that are not wanted any more, once the record does not need them."""
        location, size = facts.get("checkpoint"), facts.get("checkpoint_bytes", 0)
        self._discard(self._retention.ended(number, state == TrialState.COMPLETE, value, location, size))

    def _discard(self, locations: list[str]) -> None:
        """Remove states; while the past is replayed, only those that are still there."""
        for location in locations:
            if self._left is None or split(split(location)[0])[1] in self._left:
                self._record_writer.put(partial(self._record_writer.patiently, discard, location))

    def _charge(self, number: int, facts: Mapping[str, Any]) -> None:
        """Add what a trial has cost since it was last heard of to the GPU-hours."""
        total = self._gpus * facts.get("seconds_total", 0.0)
        self._stop_condition.used_gpu_seconds += total - self._gpu_seconds.get(number, 0.0)
        self._gpu_seconds[number] = total

    def _say(self, kind: Kind, running: Running, reason: str = "") -> None:
        self._watch(
            Event(
                kind,
                running.number,
                running.assignment.trial,
                epoch=running.reported,
                value=running.value,
                metrics={name: values[-1] for name, values in running.history.items() if values},
                reason=reason,
                seconds=time.monotonic() - running.began,
            )
        )


def tries(fault: Fault, retries: list[dict[str, Any]]) -> int:
    """Return how often a trial met the fault that it failed of."""
    return max(1, sum(1 for retry in retries if retry["kind"] == fault.kind))


class ResultCallback(Callback):
    """Passes on what Ray tells its callbacks and not its searcher."""

    def __init__(self, bridge: Bridge) -> None:
        self._bridge = bridge
        self._started: dict[str, RayTrial] = {}

    def on_trial_start(self, iteration: int, trials: list[RayTrial], trial: RayTrial, **info: Any) -> None:
        """A trial has a worker."""
        self._started[trial.trial_id] = trial

    def on_trial_result(self, iteration: int, trials: list[RayTrial], trial: RayTrial, result: dict[str, Any], **info: Any) -> None:
        """Every report, the last one of a stopped trial included."""
        self._bridge.heard(trial.trial_id, result)

    def on_step_end(self, iteration: int, trials: list[RayTrial], **info: Any) -> None:
        """Once a turn of Ray's loop."""
        self._started = {name: trial for name, trial in self._started.items() if self._bridge.live(name)}
        self._bridge.look(any(trial.status == "RUNNING" for trial in self._started.values()))
