"""Tables of what proposes trials; the rungs that stop them are in `stopping`."""

import warnings
from collections.abc import Callable

import optuna
from optuna.samplers import BaseSampler, RandomSampler, TPESampler

STARTUP_SHARE, STARTUP = 3, (4, 10)


def startup_trials(trials: int) -> int:
    """Return how many trials are drawn at random before TPE models the space: a third of the budget, within 4 to 10."""
    return min(max(trials // STARTUP_SHARE, STARTUP[0]), STARTUP[1])


def _tpe(seed: int, trials: int) -> BaseSampler:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return TPESampler(multivariate=True, group=True, constant_liar=True, n_startup_trials=startup_trials(trials), seed=seed)


SAMPLERS: dict[str, Callable[[int, int], BaseSampler]] = {"tpe": _tpe, "random": lambda seed, trials: RandomSampler(seed=seed)}
"""Name → (seed, budget of trials) → sampler. `group` lets TPE model each branch of a conditional space by itself."""


def build_sampler(name: str, *, seed: int, trials: int, already: int) -> BaseSampler:
    """Return a sampler whose seed also counts the trials `already` in the study, so that a resumed search repeats no draw."""
    return SAMPLERS[name](seed * 1_000_003 + already, trials)
