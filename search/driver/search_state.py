"""What the trials so far mean for the rest of a search: the budgets they used, their values at rungs, their checkpoints, their faults."""

from collections.abc import Mapping
from typing import Any

from optuna.trial import TrialState

from search.driver.retention import Retention
from search.policy.faults import Fault, Faults
from search.policy.rungs import Rungs, Verdict
from search.policy.stop_condition import StopCondition


class SearchState:
    """Counts the trials of a search for its stop condition, rungs, retention of checkpoints and faults.

    The bridge updates it when a trial reports or ends; `replay` restores it from a recorded study. `gpus` is the number of GPUs of each
    trial. If `stops_early` is False, rungs collect values but stop no trial.
    """

    def __init__(self, stop_condition: StopCondition, rungs: Rungs, retention: Retention, *, gpus: float, stops_early: bool) -> None:
        self.stop_condition, self.rungs, self.retention = stop_condition, rungs, retention
        self.gpus, self.stops_early = gpus, stops_early
        self.faults = Faults()
        self.unrecorded_verdicts: dict[int, Verdict] = {}
        """Trial number → the verdict on its last recorded epoch, if the driver died before it recorded the verdict."""
        self._gpu_seconds: dict[int, float] = {}

    @property
    def mode(self) -> str:
        """Whether the objective is maximized (``max``) or minimized (``min``)."""
        return self.rungs.mode

    def charge(self, number: int, facts: Mapping[str, Any]) -> None:
        """Add the GPU time that a trial has used since the last call to the search's.

        `facts` holds the seconds that the trial has run so far as `seconds_total`.
        """
        total = self.gpus * facts.get("seconds_total", 0.0)
        self.stop_condition.used_gpu_seconds += total - self._gpu_seconds.get(number, 0.0)
        self._gpu_seconds[number] = total

    def succeeded(self, number: int, state: TrialState, value: float | None, facts: Mapping[str, Any]) -> list[str]:
        """Count a trial that finished (COMPLETE) or was stopped (PRUNED); return the locations of checkpoints that are no longer wanted.

        `value` is its last objective. `facts` holds its `checkpoint` (a location) and `checkpoint_bytes`, if it has saved one.
        """
        self.faults.succeeded()
        finished = state == TrialState.COMPLETE
        if finished and value is not None:
            self.stop_condition.completed(value)
        else:
            self.stop_condition.stopped()
        return self._release(number, finished, value, facts)

    def failed(
        self, number: int, config: Mapping[str, Any], fault: Fault | None, retries: list[dict[str, Any]], facts: Mapping[str, Any]
    ) -> list[str]:
        """Count a trial that failed; return the locations of the checkpoints that are no longer wanted. `facts` as for `succeeded`.

        `fault` is None for a trial that was refused before it ran: that is not another failure of its configuration. `retries` lists the
        faults after which the trial was tried again, each with its `kind`.
        """
        self.stop_condition.failed()
        if fault is not None:
            tries = max(1, sum(1 for retry in retries if retry["kind"] == fault.kind))
            self.faults.failed(config, fault, tries=tries)
        return self._release(number, False, None, facts)

    def _release(self, number: int, finished: bool, value: float | None, facts: Mapping[str, Any]) -> list[str]:
        return self.retention.ended(number, finished, value, facts.get("checkpoint"), facts.get("checkpoint_bytes", 0))
