"""The one condition that stops a search: a budget that is used up, a request, or the finding that the search cannot work."""

import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ray.tune import Stopper

from search.events import Gauge
from search.policy.budget import BestSoFar, gauges
from trainables.errors import InjertoError
from trainables.objectives import sign


@dataclass
class StopCondition(Stopper):
    """Ray's stopper, and the only way to stop a search. While it has a reason, it stops every trial at the trial's next epoch.

    `seconds` limits the time since `started` (monotonic clock) plus `used_seconds` of earlier runs of the study; `gpu_seconds` limits
    `used_gpu_seconds`. `interrupted`, `finished` and `hopeless` hold the reason of a pause, of an end on request and of giving up. An
    interrupted search pauses its trials, so that they can be resumed; a search whose budget is used up ends them. `ended` counts the trials
    that have ended, `asked` holds the Ray ids of trials that a user stops, and `stranded` tells that no running trial has had a worker for
    a while. `over` is True after the last trial has ended; from then on the driver refuses requests to pause or to end the search.
    """

    mode: str
    trials: int
    seconds: float | None = None
    gpu_seconds: float | None = None
    target: float | None = None
    no_improvement: int | None = None
    used_seconds: float = 0.0
    used_gpu_seconds: float = 0.0
    started: float = field(default_factory=time.monotonic)
    interrupted: str | None = None
    finished: str | None = None
    hopeless: str | None = None
    stranded: bool = False
    over: bool = False
    error: InjertoError | None = None
    ended: int = 0
    asked: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._best_so_far = BestSoFar(self.mode)

    @property
    def best(self) -> float | None:
        """The best value of the finished trials, None before the first has finished."""
        return self._best_so_far.value

    def __call__(self, trial_id: str, result: Mapping[str, Any]) -> bool:
        """Return whether a trial that has just reported ends now; Ray calls this after each report.

        It does if the search stops, if a user asked for it (`asked`), or if its objective is missing or not finite.
        """
        return self.reason() is not None or trial_id in self.asked or not math.isfinite(result.get("objective", math.nan))

    def stop_all(self) -> bool:
        """Return whether Ray ends all trials at once: the search ends, and no running trial can report again because none has a worker.

        Ray then skips the calls that end a trial.
        """
        return self.stranded and self.reason() is not None

    def elapsed(self) -> float:
        """Return the seconds that the study has run, earlier runs included."""
        return self.used_seconds + time.monotonic() - self.started

    def interrupt(self, why: str, error: InjertoError | None = None) -> None:
        """Ask the search to pause; its trials can be resumed. The driver raises `error` after they have paused."""
        self.interrupted, self.error = self.interrupted or why, self.error or error

    def finish(self, why: str) -> None:
        """End the search for this reason, as if its budget were used up."""
        self.finished = why

    def give_up(self, why: str) -> None:
        """End a search that cannot work, for this reason."""
        self.hopeless = why

    def completed(self, value: float) -> None:
        """Count a trial that finished with this value of the objective."""
        self.ended += 1
        self._best_so_far.completed(value)

    def stopped(self) -> None:
        """Count a trial that was stopped before its last epoch, as one without a better value."""
        self.ended += 1
        self._best_so_far.stopped()

    def failed(self) -> None:
        """Count a trial that failed: it counts neither for nor against an improvement."""
        self.ended += 1

    def reason(self) -> str | None:
        """Return why the search ends now, for a user; None while it goes on."""
        return self.interrupted or self.hopeless or self.finished or next((why for reached, why in self._limits() if reached), None)

    def may_propose(self, proposed: int) -> bool:
        """Return whether one more trial may start if `proposed` trials have been proposed so far."""
        return self.reason() is None and proposed < self.trials

    def gauges(self) -> list[Gauge]:
        """Return how much is used of each budget that has a limit, trials first."""
        used = {
            "trials": self.ended,
            "time": self.elapsed(),
            "gpu_hours": self.used_gpu_seconds / 3600,
            "no_improvement": self._best_so_far.trials_since,
        }
        limits = {
            "trials": self.trials,
            "time": self.seconds,
            "gpu_hours": None if self.gpu_seconds is None else self.gpu_seconds / 3600,
            "no_improvement": self.no_improvement,
        }
        return gauges(used, limits)

    def _limits(self) -> Iterator[tuple[bool, str]]:
        """Yield for each budget that has a limit whether it is used up, and the reason that a user reads if it is."""
        if self.seconds is not None:
            yield self.elapsed() >= self.seconds, f"the time budget of {self.seconds:.0f} s is over"
        if self.gpu_seconds is not None:
            yield self.used_gpu_seconds >= self.gpu_seconds, f"the budget of {self.gpu_seconds / 3600:g} GPU-hours is used up"
        if self.target is not None and self.best is not None:
            yield sign(self.mode) * self.best >= sign(self.mode) * self.target, f"the target {self.target:g} is reached"
        if self.no_improvement is not None:
            reached = self._best_so_far.trials_since >= self.no_improvement
            yield reached, f"{self.no_improvement} trials in a row brought no improvement"
