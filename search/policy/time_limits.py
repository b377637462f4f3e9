"""`TimeLimits`, which keeps proposals so shallow and short that they can finish in the time that is left."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from optuna.distributions import BaseDistribution, IntDistribution
from optuna.trial import FrozenTrial

from search.space.parameter import Parameter, Values
from trainables.config import TrialConfig

LATEST = 200
"""Trials whose cost is looked at, the latest ones."""
SHARE = 0.9
"""Of the time that is left, which a trial may be expected to take."""
SLOPE, SLOPE_WEIGHT = 2.0, 0.1
"""Expected difference in the logarithm of an epoch's seconds between a body that trains as a whole and a frozen one, and its weight.

EfficientNet-Lite0 at 96 pixels takes 45 ms an image as a whole and 6 ms frozen, which is exp(2.0) to 1. The weight is that of one trial at
0.3 of the depth from the mean.
"""


@dataclass(frozen=True)
class EpochCost:
    """What an epoch of one trial took: `seconds`, where the share `depth` of the body trained on squares of `side` pixels."""

    depth: float
    side: int
    seconds: float


def epoch_costs(trials: Sequence[FrozenTrial], stages: Mapping[str, int]) -> list[EpochCost]:
    """Return the cost of each of the latest trials that has recorded an epoch. `stages`: backbone → number."""
    costs = []
    for trial in [trial for trial in trials if trial.intermediate_values][-LATEST:]:
        config, facts = trial.user_attrs.get("config", {}), trial.user_attrs.get("facts", {})
        if config.get("backbone") in stages and facts.get("seconds_total", 0.0) > 0:
            depth = config["unfrozen_stages"] / stages[config["backbone"]]
            costs.append(EpochCost(depth, config["image_size"], facts["seconds_total"] / len(trial.intermediate_values)))
    return costs


def expected_seconds(costs: Sequence[EpochCost], depth: float, side: int) -> float | None:
    """Return the seconds that an epoch is expected to take, or None without any cost.

    The logarithm of the seconds for each pixel is a line over the depth, fitted by least squares with the expected `SLOPE`.
    """
    if not costs:
        return None
    logs = [math.log(cost.seconds / cost.side**2) for cost in costs]
    middle, level = fmean(cost.depth for cost in costs), fmean(logs)
    covered = sum((cost.depth - middle) ** 2 for cost in costs)
    together = sum((cost.depth - middle) * (log - level) for cost, log in zip(costs, logs, strict=True))
    slope = (together + SLOPE_WEIGHT * SLOPE) / (covered + SLOPE_WEIGHT)
    return side**2 * math.exp(level + slope * (depth - middle))


class TimeLimits:
    """Narrows the ranges of depth and epochs to what can finish in `seconds` at the `costs` so far.

    Without any cost, a trial is at most as deep and as long as the default `recipe`. The lowest value of a range always stays.
    """

    def __init__(self, seconds: float, costs: Sequence[EpochCost], recipe: TrialConfig, stages: Mapping[str, int]) -> None:
        self._seconds, self._costs, self._recipe, self._stages = SHARE * seconds, costs, recipe, stages

    def distribution(self, parameter: Parameter, values: Values, fewest_epochs: int) -> BaseDistribution:
        """Return the range of a parameter. `values` are the fields that are set so far; no trial has fewer than `fewest_epochs`."""
        known = parameter.distribution
        if parameter.sets not in ("unfrozen_stages", "epochs") or not isinstance(known, IntDistribution):
            return known
        if parameter.sets == "epochs":
            highest = self._most_epochs(values)
        else:
            depths = range(known.low, known.high + 1, known.step)
            highest = max((depth for depth in depths if self._may_be(depth, values, fewest_epochs)), default=known.low)
        if highest >= known.high:
            return known
        high = known.low + max(0, highest - known.low) // known.step * known.step
        return IntDistribution(known.low, high, log=known.log, step=known.step)

    def _may_be(self, depth: int, values: Values, epochs: int) -> bool:
        seconds = self._epoch({**values, "unfrozen_stages": depth})
        return depth <= self._recipe.unfrozen_stages if seconds is None else epochs * seconds <= self._seconds

    def _most_epochs(self, values: Values) -> int:
        seconds = self._epoch(values)
        return self._recipe.epochs if seconds is None else int(self._seconds / seconds)

    def _epoch(self, values: Mapping[str, Any]) -> float | None:
        stages = self._stages[values["backbone"]]
        return expected_seconds(self._costs, min(values["unfrozen_stages"], stages) / stages, values["image_size"])
