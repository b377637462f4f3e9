"""When a trial ends early, and when a search does: rungs on a trial's own progress, and the one stopper."""

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ray.tune import Stopper
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from trainables.errors import InjertoError

SMALLEST_RUNG = 5


@dataclass(frozen=True)
class Verdict:
    """What a rung said of a trial."""

    rung: int
    value: float
    cutoff: float
    rank: int
    of: int
    ahead: int

    def in_words(self, mode: str) -> str:
        """Say why the trial was stopped."""
        sign = "<" if mode == "max" else ">"
        return (
            f"rung {self.rung / 10:.0f}% of its epochs: {self.value:.4g} {sign} cutoff {self.cutoff:.4g}, "
            f"rank {self.rank} of {self.of}, behind trial {self.ahead}"
        )


@dataclass
class Rungs:
    """Successive halving on progress (Li et al. 2020, "A System for Massively Parallel Hyperparameter Tuning").

    Progress is the share of a trial's own epochs in per mille. Rungs stand at 1/factor² and 1/factor of it; a trial is judged at the
    first report past a rung, never before its warm-up ends or its second epoch. A rung stops nobody until it holds max(5, factor)
    results, and never stops a trial in `spared`.
    """

    mode: str
    factor: int = 3
    spared: frozenset[int] = frozenset({0})
    results: dict[int, dict[int, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for power in (2, 1):
            self.results.setdefault(round(1000 / self.factor**power), {})

    def observe(self, number: int, *, epoch: int, epochs: int, warmup: float, value: float) -> Verdict | None:
        """Record a report at the highest rung that it newly passes; return a verdict if the trial should stop there."""
        progress = round(1000 * epoch / epochs)
        if epoch < 2 or epoch >= epochs or progress < 1000 * warmup or not math.isfinite(value):
            return None
        for rung in sorted(self.results, reverse=True):
            results = self.results[rung]
            if number in results:
                return None
            if progress >= rung:
                results[number] = value
                return self._judge(number, rung)
        return None

    def _judge(self, number: int, rung: int) -> Verdict | None:
        results = self.results[rung]
        sign = 1 if self.mode == "max" else -1
        ranking = sorted(results, key=lambda trial: (-sign * results[trial], trial))
        keep = max(1, math.ceil(len(ranking) / self.factor))
        cutoff = results[ranking[keep - 1]]
        if number in self.spared or len(ranking) < max(SMALLEST_RUNG, self.factor) or sign * results[number] >= sign * cutoff:
            return None
        return Verdict(rung, results[number], cutoff, ranking.index(number) + 1, len(ranking), ranking[0])


class ProgressHalving(FIFOScheduler):
    """Asks the rungs after each epoch whether a trial goes on."""

    def __init__(self, rungs: Rungs, verdicts: dict[int, Verdict]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._rungs, self._verdicts = rungs, verdicts

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: Mapping[str, Any]) -> str:
        """Return Ray's decision for a trial that reported an epoch."""
        if "epoch" not in result:
            return str(TrialScheduler.CONTINUE)
        assignment = trial.config["assignment"]
        planned = assignment["trial"]
        verdict = self._rungs.observe(
            assignment["number"], epoch=result["epoch"], epochs=planned["epochs"], warmup=planned["warmup"], value=result["objective"]
        )
        if verdict is None:
            return str(TrialScheduler.CONTINUE)
        self._verdicts[assignment["number"]] = verdict
        return str(TrialScheduler.STOP)


@dataclass
class Ending(Stopper):
    """The one way to stop a search: trials, time, a target or a request; True at each trial's next epoch.

    `seconds` counts from `started` (monotonic clock), less what an earlier run of the study already used.
    """

    mode: str
    trials: int
    seconds: float | None = None
    target: float | None = None
    used_seconds: float = 0.0
    started: float = field(default_factory=time.monotonic)
    interrupted: str | None = None
    error: InjertoError | None = None
    best: float | None = None

    def __call__(self, trial_id: str, result: Mapping[str, Any]) -> bool:
        """Say whether a trial that has just reported should end now."""
        return self.reason() is not None

    def stop_all(self) -> bool:
        """Never: it would skip the calls that close a trial."""
        return False

    def elapsed(self) -> float:
        """Return the seconds that the study has run, earlier runs included."""
        return self.used_seconds + time.monotonic() - self.started

    def interrupt(self, why: str, error: InjertoError | None = None) -> None:
        """Ask the search to pause at the next epochs; its trials can be resumed. An error is raised once they have paused."""
        self.interrupted, self.error = why, error

    def completed(self, value: float) -> None:
        """Take note of a finished trial's value."""
        if self.best is None or (value > self.best if self.mode == "max" else value < self.best):
            self.best = value

    def reason(self) -> str | None:
        """Return in words why the search ends now, or None while it goes on."""
        if self.interrupted:
            return self.interrupted
        if self.seconds is not None and self.elapsed() >= self.seconds:
            return f"the time budget of {self.seconds:.0f} s is over"
        if self.target is not None and self.best is not None:
            reached = self.best >= self.target if self.mode == "max" else self.best <= self.target
            if reached:
                return f"the target {self.target:g} is reached"
        return None

    def may_propose(self, proposed: int) -> bool:
        """Say whether one more trial may begin after `proposed` so far."""
        return self.reason() is None and proposed < self.trials
