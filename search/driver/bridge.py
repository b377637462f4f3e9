"""The bridge between Ray Tune and Optuna: a Ray searcher that proposes Optuna's trials and records how they go.

Ray calls, for each trial, `Bridge.suggest`, `Bridge.on_report` after every epoch (through `ResultCallback`), `Bridge.may_retry` if a
worker breaks, and `Bridge.on_trial_complete`. All of them run in Ray's event loop. They only decide and submit jobs to the record writer,
which runs them in order on its own thread.
"""

import math
import time
from collections.abc import Callable
from concurrent.futures import Future, TimeoutError
from functools import partial
from typing import Any, cast

import optuna
from optuna.trial import TrialState
from ray.tune.search import Searcher

from search.driver.replay import replay
from search.driver.search_state import SearchState
from search.driver.trial_source import TrialSetup, TrialSource
from search.events import Event, EventKind
from search.policy.faults import Fault, classify_error
from search.policy.rungs import Verdict
from search.record.record_writer import RecordWriter
from search.record.trial_writer import RunningTrial, TrialWriter
from trainables.errors import InjertoError, ResourceError, StorageError
from trainables.storage.saved_states import discard_states

PROPOSAL_SECONDS = 0.2
"""How long Ray's event loop waits for a proposal before it handles its running trials again."""
PAUSING: dict[str, type[InjertoError]] = {"no space": ResourceError, "no storage": StorageError}
"""Kind of failure that is not the trial's own → the error that is raised after it has paused the search."""
STRANDED_SECONDS = 20.0
"""How long a search that is over waits for trials that have no worker."""
FINISHED = cast("dict[str, Any]", Searcher.FINISHED)


class Bridge(Searcher):
    """Ray's searcher over an Optuna study: Ray gets each trial's configuration from here. At most `slots` trials run at a time.

    `on_event` is called in Ray's event loop for each change of a trial. A new bridge brings `state` to where the trials of the study left
    it, and deletes their checkpoints that are no longer wanted.
    """

    def __init__(
        self,
        study: optuna.Study,
        setup: TrialSetup,
        state: SearchState,
        record_writer: RecordWriter,
        *,
        slots: int,
        on_event: Callable[[Event], None],
    ) -> None:
        super().__init__(metric="objective", mode=state.mode)
        self._state, self._stop_condition, self._record_writer, self._on_event = state, state.stop_condition, record_writer, on_event
        self.slots = slots
        """Changes while the search runs, as nodes join and leave."""
        self.verdicts: dict[int, Verdict] = {}
        """Trial number → the verdict of the rung that stopped it."""
        self.node_usage: dict[str, dict[str, Any]] = {}
        """Node → its load, from the latest report of a trial on it."""
        self._running: dict[str, RunningTrial] = {}
        self._proposal: Future[RunningTrial] | None = None
        self._last_worker_seen = time.monotonic()
        past = study.get_trials(deepcopy=False)
        self._trial_writer = TrialWriter(study, record_writer, root=setup.root, gpus=state.gpus, mode=state.mode)
        self._source = TrialSource(study, setup, state, record_writer, self._trial_writer, past)
        self._discard(replay(state, past, setup.root))

    def __getstate__(self) -> dict[str, Any]:
        """Return what Ray pickles of its searcher; the study is left out, because everything is in the record."""
        return {"_metric": self._metric, "_mode": self._mode}

    def save(self, checkpoint_path: str) -> None:
        """Save nothing: a resumed search makes a new bridge over the same study."""

    def restore(self, checkpoint_path: str) -> None:
        """Restore nothing: a resumed search makes a new bridge over the same study."""

    # Ray's searcher interface

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        """Return the next trial as ``{"assignment": ...}``, its `Assignment` as JSON; or Ray's FINISHED if the search ends.

        None makes Ray ask again later: if all slots are taken, if the proposal is not ready (the record may wait for its database), if the
        proposed trial has already ended, or if a user may still add trials. `trial_id` is Ray's.
        """
        ending = self._stop_condition.reason() is not None
        if len(self._running) >= self.slots and not ending:
            return None
        if self._proposal is None:
            if ending:
                return FINISHED
            if not (self._source.has_interrupted or self._stop_condition.may_propose(self._source.proposed)):
                return None if self._running else FINISHED  # while a trial runs, a user may add more
            self._proposal = self._record_writer.submit(self._source.next_trial)
        try:
            running = self._proposal.result(timeout=PROPOSAL_SECONDS)
        except TimeoutError:
            return FINISHED if self._stop_condition.reason() is not None else None
        except Exception:
            return FINISHED
        self._proposal = None
        if running.outcome is not None:
            self._count_ended_before_start(running, *running.outcome)
            return None
        self._running[trial_id] = running
        running.started = time.monotonic()
        self._record_writer.submit(lambda: self._trial_writer.write(running, ray_trial_id=trial_id))
        self._notify("began", running)
        return {"assignment": running.assignment.model_dump(mode="json")}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Do nothing: Ray does not call this for the last result of a stopped trial. `on_report` gets every result."""

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Decide whether a trial that Ray has ended is finished, stopped, failed or paused; submit that to the record and call `on_event`.

        A paused trial stays RUNNING in Optuna. Does nothing for a trial that has ended before. `result` and `error` are not used.
        """
        running = self._running.pop(trial_id, None)
        if running is None:
            return
        fault, reason = running.failure, self._stop_condition.reason()
        if fault is not None and fault.kind in PAUSING:
            self._stop_condition.interrupt(fault.as_text(), PAUSING[fault.kind](fault.message))
            self._notify("paused", running, fault.as_text())
        elif fault is not None:
            self._fail(running, fault)
        elif running.reported >= running.assignment.trial.epochs:
            self._end(running, TrialState.COMPLETE, "")
        elif running.number in self.verdicts:
            self._end(running, TrialState.PRUNED, self.verdicts[running.number].as_text(self._state.mode))
        elif running.stop_request is not None:
            self._end(running, TrialState.PRUNED, running.stop_request)
        elif self._stop_condition.interrupted:
            self._notify("paused", running, self._stop_condition.interrupted)
        elif reason:
            self._end(running, TrialState.PRUNED, f"budget: {reason}" if not self._stop_condition.hopeless else reason)
        else:
            self._fail(running, Fault("other", "Ray ended the trial before its last epoch"))

    # Ray's other hooks, and requests from other threads

    def on_report(self, trial_id: str, result: dict[str, Any]) -> None:
        """Submit a trial's report to the record: every epoch of its history that is not recorded yet.

        A failure in `result`, or an objective that is not finite, is only noted: `on_trial_complete` handles it. Interrupts the search
        if the checkpoints that must be kept exceed the allowed space.
        """
        running = self._running[trial_id]
        objective = result.get("objective", math.nan)
        if "failure" in result:
            running.failure = Fault(**result["failure"])
            return
        if not math.isfinite(objective):
            running.failure = Fault("non-finite", f"the trial reported {result.get('objective', 'no objective')} as its objective")
            return
        running.facts = result["facts"]
        if "usage" in running.facts:
            self.node_usage[running.facts["node"]] = running.facts["usage"]
        if result["epoch"] <= running.reported:  # a worker that replaces a lost one first reports the epoch that it starts from
            return
        epochs = range(running.reported + 1, result["epoch"] + 1)
        running.reported, running.history = result["epoch"], result["history"]
        self._state.charge(running.number, running.facts)
        self._discard(self._state.retention.size(running.number, running.facts.get("checkpoint_bytes", 0)))
        self._record_writer.submit(
            partial(self._trial_writer.write_epochs, running, epochs, result["history"], result["facts"], self.verdicts.get(running.number))
        )
        self._notify("epoch", running)
        if (shortage := self._state.retention.shortage()) is not None:
            self._stop_condition.interrupt("no space left", ResourceError(shortage))

    def may_retry(self, trial_id: str, error: BaseException) -> bool:
        """Count the fault of a trial whose worker broke; return whether the trial continues on another worker, from its last epoch.

        False if the trial had too many such faults at this epoch, and then it fails; also False for a trial that is not running.
        """
        running = self._running.get(trial_id)
        if running is None:
            return False
        fault = classify_error(error)
        running.retries.append({"kind": fault.kind, "message": fault.message, "epoch": running.reported, "node": running.facts.get("node")})
        if not self._state.faults.may_retry(running.number, running.reported, fault):
            running.failure = fault
            return False
        retries = list(running.retries)
        self._record_writer.submit(lambda: self._trial_writer.write(running, retries=retries))
        self._notify("retry", running, f"{fault.as_text()}; it continues after epoch {running.reported}")
        return True

    def stop_trial(self, number: int, why: str) -> bool:
        """Ask the trial with Optuna's `number` to stop at its next epoch, for the recorded reason `why`; return whether it is running.

        May be called on any thread.
        """
        for trial_id, running in list(self._running.items()):
            if running.number == number:
                running.stop_request = why
                self._stop_condition.asked.add(trial_id)
                return True
        return False

    def note_workers(self, any_working: bool) -> None:
        """Note, in each turn of Ray's event loop, whether any trial has a worker.

        If a search is ending and none of its running trials has had a worker for `STRANDED_SECONDS`, set `StopCondition.stranded`, so that
        the search does not wait for them.
        """
        if any_working or not self._running or self._stop_condition.reason() is None:
            self._last_worker_seen = time.monotonic()
        self._stop_condition.stranded = time.monotonic() - self._last_worker_seen > STRANDED_SECONDS

    def is_running(self, trial_id: str) -> bool:
        """Return whether the trial with Ray's `trial_id` has begun and not ended."""
        return trial_id in self._running

    def close(self) -> None:
        """Submit the end of all trials that are still open. Call this after Ray's event loop has ended.

        If the search was interrupted, its open trials stay RUNNING in Optuna, so that they can be resumed.
        """
        if self._proposal is not None:
            self._record_writer.submit(partial(self._source.withdraw, self._proposal))
        for trial_id in list(self._running):
            if self._stop_condition.reason() is not None:
                self.on_trial_complete(trial_id)
            else:
                self._fail(self._running.pop(trial_id), Fault("other", "the search ended before the trial did"))
        if not self._stop_condition.interrupted:
            self._record_writer.submit(self._source.end_open_trials)

    # How trials end

    def _end(self, running: RunningTrial, state: TrialState, reason: str) -> None:
        self._record_writer.submit(lambda: self._trial_writer.tell(running, state, reason))
        self._count_ended(running, state, reason)

    def _count_ended(self, running: RunningTrial, state: TrialState, reason: str) -> None:
        self._discard(self._state.succeeded(running.number, state, running.value, running.facts))
        self._notify("finished" if state == TrialState.COMPLETE else "stopped", running, reason)

    def _count_ended_before_start(self, running: RunningTrial, state: TrialState, reason: str) -> None:
        """Count a trial that was recorded as ended before Ray ran it: an earlier run trained it, or its configuration failed too often."""
        if state != TrialState.FAIL:
            self._count_ended(running, state, reason)
            return
        self._discard(self._state.failed(running.number, running.written["config"], None, running.retries, running.facts))
        self._notify("failed", running, reason)

    def _fail(self, running: RunningTrial, fault: Fault) -> None:
        self._record_writer.submit(lambda: self._trial_writer.tell_failed(running, fault))
        config = running.assignment.trial.model_dump(mode="json")
        self._discard(self._state.failed(running.number, config, fault, running.retries, running.facts))
        self._notify("failed", running, fault.as_text())
        if self._state.faults.hopeless() and not any(other.reported for other in self._running.values()):
            self._stop_condition.give_up(f"the first trials all failed alike ({fault.as_text()})")

    def _discard(self, checkpoints: list[str]) -> None:
        """Submit the deletion of the states of the trials with a state at these locations.

        It runs after all jobs so far, which may still need the files.
        """
        for location in checkpoints:
            self._record_writer.submit(partial(self._record_writer.with_retries, discard_states, location))

    def _notify(self, kind: EventKind, running: RunningTrial, reason: str = "") -> None:
        self._on_event(
            Event(
                kind,
                running.number,
                running.assignment.trial,
                epoch=running.reported,
                value=running.value,
                metrics={name: values[-1] for name, values in running.history.items() if values},
                reason=reason,
                seconds=time.monotonic() - running.started,
            )
        )
