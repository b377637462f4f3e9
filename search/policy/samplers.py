"""The table of Optuna samplers, which propose trials, and what makes their proposals reproducible."""

import warnings
from collections.abc import Callable, Container
from typing import Any, cast

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState

FEWEST_STARTUP_TRIALS, MOST_STARTUP_TRIALS = 4, 10


def startup_trials(trials: int) -> int:
    """Return how many trials are random before TPE models the space: a third of the budget of `trials`, at least 4 and at most 10."""
    return min(max(trials // 3, FEWEST_STARTUP_TRIALS), MOST_STARTUP_TRIALS)


def _tpe(seed: int, trials: int) -> BaseSampler:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return TPESampler(multivariate=True, group=True, constant_liar=True, n_startup_trials=startup_trials(trials), seed=seed)


SAMPLERS: dict[str, Callable[[int, int], BaseSampler]] = {"tpe": _tpe, "random": lambda seed, trials: RandomSampler(seed=seed)}
"""Name → (seed, budget of trials) → sampler. `group` makes TPE model each group of parameters that occur together on its own."""


class TrialsReadOnce:
    """A proxy of a study for TPE: it answers from the study's cache, so that trials are loaded once for each proposal.

    With `constant_liar`, TPE otherwise loads them again for each group of parameters.
    """

    def __init__(self, study: optuna.Study) -> None:
        self._study = study

    def __getattr__(self, name: str) -> Any:
        return getattr(self._study, name)

    def _get_trials(self, deepcopy: bool = True, states: Container[TrialState] | None = None, use_cache: bool = False) -> list[FrozenTrial]:
        return self._study._get_trials(deepcopy, states, use_cache=True)


class SeededPerTrial(BaseSampler):
    """An Optuna sampler that builds a new sampler for each trial; `build` gets the trial's number.

    A proposal then depends on the number and the record alone, so that a resumed search proposes the same trials as one that was never
    interrupted.
    """

    def __init__(self, build: Callable[[int], BaseSampler]) -> None:
        self._build, self._sampler = build, build(0)

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Build the sampler of this trial; Optuna calls this first."""
        self._sampler = self._build(trial.number)
        self._sampler.before_trial(study, trial)

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return the parameters that the trial's sampler samples together, with their distributions, by name."""
        return self._sampler.infer_relative_search_space(cast(optuna.Study, TrialsReadOnce(study)), trial)

    def sample_relative(self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]) -> dict[str, Any]:
        """Return values of the parameters that are sampled together, by name."""
        return self._sampler.sample_relative(cast(optuna.Study, TrialsReadOnce(study)), trial, search_space)

    def sample_independent(self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution) -> Any:
        """Return a value of one parameter that is sampled by itself."""
        return self._sampler.sample_independent(cast(optuna.Study, TrialsReadOnce(study)), trial, param_name, param_distribution)


def build_sampler(name: str, *, seed: int, trials: int) -> BaseSampler:
    """Return the sampler with this name in `SAMPLERS`, for a budget of `trials`.

    Its proposal depends on the seed, the trial's number and the record alone.
    """
    return SeededPerTrial(lambda number: SAMPLERS[name]((seed * 1_000_003 + number) % 2**32, trials))
