"""Where the next trial comes from: an interrupted trial of the record, else a new proposal of Optuna.

Everything here but `TrialSource.proposed` and `has_interrupted` runs in jobs of the record writer, so that Ray's event loop never waits
for the database, and each proposal sees all that was written before.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

import optuna
from optuna.trial import FrozenTrial, TrialState

from search.driver.replay import NOT_TRIED
from search.driver.search_state import SearchState
from search.policy.faults import Fault
from search.policy.time_limits import TimeLimits, epoch_costs
from search.record.record_writer import RecordWriter
from search.record.trial_writer import RunningTrial, TrialWriter
from search.space.space import Narrow, Space
from trainables.config import TrialConfig
from trainables.worker.assignment import Assignment


@dataclass(frozen=True)
class TrialSetup:
    """How the trials of a search are made: `assign` gives a worker's assignment for a trial's number and configuration.

    `root` is where checkpoints and artifacts are stored.
    """

    space: Space
    assign: Callable[[int, TrialConfig], Assignment]
    root: str


class TrialSource:
    """Makes the trials that Ray runs. `past` are the trials that the study had at the start; those RUNNING are continued first."""

    def __init__(
        self,
        study: optuna.Study,
        setup: TrialSetup,
        state: SearchState,
        record_writer: RecordWriter,
        trial_writer: TrialWriter,
        past: Sequence[FrozenTrial],
    ) -> None:
        self._study, self._space, self._assign, self._state = study, setup.space, setup.assign, state
        self._record_writer, self._trial_writer = record_writer, trial_writer
        self._numbers = {trial.number for trial in past if trial.state != TrialState.WAITING}
        self._interrupted = [trial for trial in past if trial.state == TrialState.RUNNING]
        self._asking = False

    @property
    def proposed(self) -> int:
        """The number of trials that have begun, those of earlier runs included; enqueued trials count once they are taken."""
        return len(self._numbers)

    @property
    def has_interrupted(self) -> bool:
        """Whether an interrupted trial waits to be continued."""
        return bool(self._interrupted)

    def next_trial(self) -> RunningTrial:
        """Return the next trial, and write its configuration to the record.

        If the trial has already ended, or its configuration has failed too often, its end is recorded and its `outcome` is set.
        """
        return self._continue_interrupted() if self._interrupted else self._propose()

    def withdraw(self, proposal: "Future[RunningTrial]") -> None:
        """Record a trial that was proposed too late to run as PRUNED; leave it open for a resume if the search is only interrupted."""
        running = None if proposal.exception() else proposal.result()
        if running is not None and running.outcome is None and not self._state.stop_condition.interrupted:
            self._trial_writer.tell(running, TrialState.PRUNED, f"budget: {self._state.stop_condition.reason()}")

    def end_open_trials(self) -> None:
        """Record the end of every trial that is still RUNNING in Optuna after the search: interrupted ones, and any that Ray has lost.

        Such a trial is COMPLETE if it has trained all its epochs, PRUNED if a rung stopped it or the budget ended, and else FAIL.
        """
        reason = self._state.stop_condition.reason()
        for frozen in self._record_writer.with_retries(self._study.get_trials, deepcopy=False, states=(TrialState.RUNNING,)):
            running = self._reattach(frozen)
            budget_over = (TrialState.PRUNED, f"budget: {reason}") if reason else None
            if (outcome := self._recorded_outcome(running, frozen) or budget_over) is not None:
                self._trial_writer.tell(running, *outcome)
            else:
                self._trial_writer.tell_failed(running, Fault("other", "the trial was still open when the search ended"))

    def _continue_interrupted(self) -> RunningTrial:
        frozen = self._interrupted.pop(0)
        running = self._reattach(frozen)
        running.outcome = self._recorded_outcome(running, frozen)
        if running.outcome is not None:
            self._trial_writer.tell(running, *running.outcome)
        return running

    def _reattach(self, frozen: FrozenTrial) -> RunningTrial:
        return self._running_trial(optuna.trial.Trial(self._study, frozen._trial_id), frozen)

    def _recorded_outcome(self, running: RunningTrial, frozen: FrozenTrial) -> tuple[TrialState, str] | None:
        """Return the state and the reason with which an open trial ended according to its record, None if it has epochs left to train."""
        if running.reported >= running.assignment.trial.epochs:
            return TrialState.COMPLETE, ""
        reason = frozen.user_attrs.get("verdict")
        if reason is None and running.number in self._state.unrecorded_verdicts:
            reason = self._state.unrecorded_verdicts[running.number].as_text(self._state.mode)
        return (TrialState.PRUNED, reason) if reason is not None else None

    def _propose(self) -> RunningTrial:
        """Ask Optuna for a trial and return it. If its configuration has failed too often, record it as failed and set its `outcome`."""
        running = self._running_trial(self._record_writer.with_retries(self._ask))
        refusal = self._state.faults.refusal(running.written["config"])
        if refusal is not None:
            fault = Fault(NOT_TRIED, refusal)
            running.outcome = TrialState.FAIL, fault.as_text()
            self._trial_writer.tell_failed(running, fault)
        return running

    def _ask(self) -> optuna.Trial:
        """Return a new trial of `study.ask` with all parameters suggested.

        If a database error cut an earlier try short, return the trial that this try left behind in the study.
        """
        open_trials = self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)) if self._asking else []
        left_behind = [trial for trial in open_trials if trial.number not in self._numbers]
        self._asking = True
        trial = optuna.trial.Trial(self._study, left_behind[0]._trial_id) if left_behind else self._study.ask()
        if "fixed_params" in self._study._storage.get_trial_system_attrs(trial._trial_id):
            self._space.suggest(trial)  # an enqueued trial runs as it is asked for
        else:
            self._space.suggest(trial, self._narrow())
        self._numbers.add(trial.number)
        self._asking = False
        return trial

    def _narrow(self) -> Narrow:
        """Return what narrows the ranges of a proposal to what can finish in the time budget, if there is one."""
        seconds = self._state.stop_condition.seconds
        if seconds is None:
            return lambda parameter, values: parameter.distribution
        space, left = self._space, seconds - self._state.stop_condition.elapsed()
        costs = epoch_costs(self._study.get_trials(deepcopy=False), space.stages)
        limits, fewest = TimeLimits(left, costs, space.recipe, space.stages), min(space.possible_values("epochs"))
        return lambda parameter, values: limits.distribution(parameter, values, fewest)

    def _running_trial(self, trial: optuna.Trial, frozen: FrozenTrial | None = None) -> RunningTrial:
        attributes = frozen.user_attrs if frozen else {}
        if "config" in attributes:
            config = TrialConfig.model_validate(attributes["config"])
        else:
            config = self._space.config(trial.params) if frozen is None else self._space.suggest(trial)
        reported = len(frozen.intermediate_values) if frozen else 0
        running = RunningTrial(
            trial,
            self._assign(trial.number, config).model_copy(update={"reported": reported}),
            reported,
            self._trial_writer.read_history(attributes),
            attributes.get("facts", {}),
            retries=list(attributes.get("retries", [])),
            report_artifact=attributes.get("account"),
        )
        planned = running.assignment.trial
        self._trial_writer.write(running, config=planned.model_dump(mode="json"), epochs_planned=planned.epochs, seed=planned.seed)
        return running
