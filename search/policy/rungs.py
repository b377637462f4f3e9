"""When a trial ends early, and when a search does: rungs on a trial's own progress, and the one stopper."""

import math
import time
from bisect import bisect_left, insort
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ray.tune import Stopper
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from search.events import Gauge
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
class Rung:
    """The results that trials had when they passed one share of their epochs, the best first; `sign` is -1 where more is better."""

    sign: int
    ranking: list[tuple[float, int]] = field(default_factory=list)
    numbers: set[int] = field(default_factory=set)

    def enter(self, number: int, value: float) -> None:
        """Put a trial's result in its place."""
        insort(self.ranking, (self.sign * value, number))
        self.numbers.add(number)


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
    rungs: dict[int, Rung] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for power in (1, 2):
            self.rungs[round(1000 / self.factor**power)] = Rung(-1 if self.mode == "max" else 1)

    def enter(self, number: int, *, epoch: int, epochs: int, warmup: float, value: float) -> int | None:
        """Record a report at the highest rung that it newly passes; return that rung."""
        progress = round(1000 * epoch / epochs)
        if epoch < 2 or epoch >= epochs or progress < 1000 * warmup or not math.isfinite(value):
            return None
        for at, rung in self.rungs.items():
            if number in rung.numbers:
                return None
            if progress >= at:
                rung.enter(number, value)
                return at
        return None

    def observe(self, number: int, *, epoch: int, epochs: int, warmup: float, value: float) -> Verdict | None:
        """Record a report as `enter` does; return a verdict if the trial should stop there."""
        at = self.enter(number, epoch=epoch, epochs=epochs, warmup=warmup, value=value)
        return None if at is None or number in self.spared else self._judge(number, at, value)

    def _judge(self, number: int, at: int, value: float) -> Verdict | None:
        sign, ranking = self.rungs[at].sign, self.rungs[at].ranking
        cutoff = ranking[max(1, math.ceil(len(ranking) / self.factor)) - 1][0]
        if len(ranking) < max(SMALLEST_RUNG, self.factor) or sign * value <= cutoff:
            return None
        rank = bisect_left(ranking, (sign * value, number)) + 1
        return Verdict(at, value, sign * cutoff, rank, len(ranking), ranking[0][1])


class ProgressHalving(FIFOScheduler):
    """Asks the rungs after each epoch whether a trial goes on."""

    def __init__(self, rungs: Rungs, verdicts: dict[int, Verdict]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._rungs, self._verdicts = rungs, verdicts
        self._judged: dict[int, int] = {}

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: Mapping[str, Any]) -> str:
        """Return Ray's decision for a trial that reported an epoch; epochs that it reported to nobody before are judged in their order."""
        if "epoch" not in result:
            return str(TrialScheduler.CONTINUE)
        assignment = trial.config["assignment"]
        planned, number = assignment["trial"], assignment["number"]
        for epoch in range(self._judged.get(number, assignment["reported"]) + 1, result["epoch"] + 1):
            value = result["history/objective"][epoch - 1]
            verdict = self._rungs.observe(number, epoch=epoch, epochs=planned["epochs"], warmup=planned["warmup"], value=value)
            if verdict is not None:
                self._verdicts[number] = verdict
                break
        self._judged[number] = result["epoch"]
        return str(TrialScheduler.STOP if number in self._verdicts else TrialScheduler.CONTINUE)


@dataclass
class StopCondition(Stopper):
    """The one way to stop a search: a budget, a request, or a search that cannot work; True at each trial's next epoch.

    `seconds` counts from `started` (monotonic clock), less what an earlier run of the study already used; `gpu_seconds` likewise.
    An interrupted search pauses its trials, so that they can be resumed; one whose budget is used up ends them. Once it is `over`, the
    last trial has ended, and nothing changes why.
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
    best: float | None = None
    best_at: float | None = None
    ended: int = 0
    since_best: int = 0
    asked: set[str] = field(default_factory=set)

    def __call__(self, trial_id: str, result: Mapping[str, Any]) -> bool:
        """Say whether a trial that has just reported should end now: so does one that was `asked` to, or that reported no number."""
        return self.reason() is not None or trial_id in self.asked or not math.isfinite(result.get("objective", math.nan))

    def stop_all(self) -> bool:
        """Only where the search is over and no trial runs that could report once more: it skips the calls that close a trial."""
        return self.stranded and self.reason() is not None

    def elapsed(self) -> float:
        """Return the seconds that the study has run, earlier runs included."""
        return self.used_seconds + time.monotonic() - self.started

    def interrupt(self, why: str, error: InjertoError | None = None) -> None:
        """Ask the search to pause at the next epochs; its trials can be resumed. An error is raised once they have paused."""
        self.interrupted, self.error = self.interrupted or why, self.error or error

    def finish(self, why: str) -> None:
        """End the search as if its budget were over."""
        self.finished = why

    def give_up(self, why: str) -> None:
        """End a search that cannot work."""
        self.hopeless = why

    def completed(self, value: float) -> None:
        """Take note of a finished trial's value."""
        self.ended += 1
        self.since_best += 1
        if self.best is None or (value > self.best if self.mode == "max" else value < self.best):
            self.best, self.best_at, self.since_best = value, self.elapsed(), 0

    def stopped(self) -> None:
        """Take note of a trial that a rung stopped: it did not improve on the best."""
        self.ended += 1
        self.since_best += self.best is not None

    def failed(self) -> None:
        """Take note of a trial that failed: it says nothing of the best."""
        self.ended += 1

    def reason(self) -> str | None:
        """Return in words why the search ends now, or None while it goes on."""
        return self.interrupted or self.hopeless or self.finished or next((words for over, words in self._limits() if over), None)

    def may_propose(self, proposed: int) -> bool:
        """Say whether one more trial may begin after `proposed` so far."""
        return self.reason() is None and proposed < self.trials

    def gauges(self) -> list[Gauge]:
        """Return how much of each budget is used, trials first."""
        limited = [
            Gauge("trials", self.ended, self.trials, "trials"),
            Gauge("time", self.elapsed(), self.seconds or 0, "s"),
            Gauge("GPU-hours", self.used_gpu_seconds / 3600, (self.gpu_seconds or 0) / 3600, "GPU-h"),
            Gauge("no improvement", self.since_best, self.no_improvement or 0, "trials"),
        ]
        return [gauge for gauge in limited if gauge.limit]

    def _limits(self) -> Iterator[tuple[bool, str]]:
        if self.seconds is not None:
            yield self.elapsed() >= self.seconds, f"the time budget of {self.seconds:.0f} s is over"
        if self.gpu_seconds is not None:
            yield self.used_gpu_seconds >= self.gpu_seconds, f"the budget of {self.gpu_seconds / 3600:g} GPU-hours is used up"
        if self.target is not None and self.best is not None:
            reached = self.best >= self.target if self.mode == "max" else self.best <= self.target
            yield reached, f"the target {self.target:g} is reached"
        if self.no_improvement is not None:
            yield self.since_best >= self.no_improvement, f"{self.no_improvement} trials in a row brought no improvement"
