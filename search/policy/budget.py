"""Measures how much of its budgets a search has used; without Ray, for a running search and for one that is read from its record."""

from collections.abc import Mapping
from dataclasses import dataclass

from search.events import Gauge
from trainables.objectives import is_better

BUDGETS = {
    "trials": ("trials", "trials"),
    "time": ("time", "s"),
    "gpu_hours": ("GPU-hours", "GPU-h"),
    "no_improvement": ("no improvement", "trials"),
}
"""Key of `budget` in the configuration → the name and the unit of its gauge."""


def gauges(used: Mapping[str, float], limits: Mapping[str, float | None]) -> list[Gauge]:
    """Return a gauge for each budget that has a limit, trials first; both arguments are by key of `BUDGETS`, GPU time in hours."""
    return [Gauge(name, used[key], limit, unit) for key, (name, unit) in BUDGETS.items() if (limit := limits.get(key))]


@dataclass
class BestSoFar:
    """The best value of the trials that have finished, and how many trials have ended since then without a better one.

    `mode` is ``max`` or ``min``. A failed trial counts for neither, because it says nothing about the quality of its configuration.
    """

    mode: str
    value: float | None = None
    trials_since: int = 0

    def completed(self, value: float) -> None:
        """Count a trial that finished with this value of the objective."""
        if self.value is None or is_better(value, self.value, self.mode):
            self.value, self.trials_since = value, 0
        else:
            self.trials_since += 1

    def stopped(self) -> None:
        """Count a trial that was stopped, as one without a better value; ignored until the first trial has finished."""
        self.trials_since += self.value is not None
