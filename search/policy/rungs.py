"""Successive halving on each trial's own progress, without Ray: the rungs, the results at each, and which trials they stop."""

import math
from bisect import bisect_left, insort
from dataclasses import dataclass, field

from trainables.objectives import sign

LEAST_RESULTS = 5
"""Results that a rung must hold before it stops a trial."""


@dataclass(frozen=True)
class Verdict:
    """Why a rung stopped a trial: its value, the cutoff that it missed, and its rank among the `of` results at the rung.

    `rung` is the rung's position in per mille, `ahead` the number of the best trial there.
    """

    rung: int
    value: float
    cutoff: float
    rank: int
    of: int
    ahead: int

    def as_text(self, mode: str) -> str:
        """Return the reason why the trial was stopped, for a user; `mode` is ``max`` or ``min``."""
        comparison = {"max": "<", "min": ">"}[mode]
        return (
            f"rung {self.rung / 10:.0f}% of its epochs: {self.value:.4g} {comparison} cutoff {self.cutoff:.4g}, "
            f"rank {self.rank} of {self.of}, behind trial {self.ahead}"
        )


@dataclass
class Rung:
    """The results at one rung as (key, trial number), the best first. The key is the value, negated where more is better.

    `numbers` are the trials that have a result here.
    """

    mode: str
    ranking: list[tuple[float, int]] = field(default_factory=list)
    numbers: set[int] = field(default_factory=set)

    def key(self, value: float) -> float:
        """Return a value of the objective as a sort key, smaller is better; applied to a key, it returns the value."""
        return -sign(self.mode) * value

    def enter(self, number: int, value: float) -> None:
        """Insert the result of the trial with this number into the ranking."""
        insort(self.ranking, (self.key(value), number))
        self.numbers.add(number)


def rung_positions(factor: int) -> list[int]:
    """Return the rungs' positions in per mille of a trial's epochs, the lowest first: 1/factor² and 1/factor."""
    return [round(1000 / factor**power) for power in (2, 1)]


@dataclass
class Rungs:
    """Successive halving on progress (Li et al. 2020, "A System for Massively Parallel Hyperparameter Tuning").

    Progress is the share of a trial's own epochs in per mille; `rung_positions` gives the rungs. A trial is judged at its first report past
    a rung, but not before its warm-up has ended, not before its second epoch, and not at its last. A rung stops no trial until it holds
    max(5, factor) results, and it never stops a trial whose number is in `spared`. `rungs` maps a rung's position to it, the highest first.
    """

    mode: str
    factor: int = 3
    spared: frozenset[int] = frozenset({0})
    rungs: dict[int, Rung] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for position in reversed(rung_positions(self.factor)):
            self.rungs[position] = Rung(self.mode)

    def enter(self, number: int, *, epoch: int, epochs: int, warmup: float, value: float) -> int | None:
        """Record a report at the highest rung that it newly passes, and return that rung's position in per mille; None if it passes none.

        `epoch` of `epochs` are done, `warmup` is the share of the epochs that is not judged, `value` the objective.
        """
        progress = round(1000 * epoch / epochs)
        if epoch < 2 or epoch >= epochs or progress < 1000 * warmup or not math.isfinite(value):
            return None
        for position, rung in self.rungs.items():
            if number in rung.numbers:
                return None
            if progress >= position:
                rung.enter(number, value)
                return position
        return None

    def observe(self, number: int, *, epoch: int, epochs: int, warmup: float, value: float) -> Verdict | None:
        """Record a report as `enter` does; return a verdict if the trial should stop there, None if it continues."""
        position = self.enter(number, epoch=epoch, epochs=epochs, warmup=warmup, value=value)
        return None if position is None or number in self.spared else self._judge(number, position, value)

    def _judge(self, number: int, position: int, value: float) -> Verdict | None:
        rung = self.rungs[position]
        ranking, key = rung.ranking, rung.key(value)
        cutoff = ranking[max(1, math.ceil(len(ranking) / self.factor)) - 1][0]
        if len(ranking) < max(LEAST_RESULTS, self.factor) or key <= cutoff:
            return None
        rank = bisect_left(ranking, (key, number)) + 1
        return Verdict(position, value, rung.key(cutoff), rank, len(ranking), ranking[0][1])
