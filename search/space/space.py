"""A search space, which turns the parameters that Optuna suggests into a `TrialConfig`."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations, product
from typing import Any

from optuna import Trial
from optuna.distributions import BaseDistribution, distribution_to_json

from search.space.parameter import Parameter, Values
from trainables.config import TrialConfig
from trainables.errors import ConfigError, did_you_mean

Narrow = Callable[[Parameter, Values], BaseDistribution]


@dataclass(frozen=True)
class Space:
    """The default recipe, the parameters that a search varies around it, and the stages of each backbone: name → number."""

    recipe: TrialConfig
    parameters: tuple[Parameter, ...]
    stages: Mapping[str, int]

    def suggest(self, trial: Trial, narrowed: Narrow = lambda parameter, values: parameter.distribution) -> TrialConfig:
        """Ask Optuna for a value of each parameter that applies, in order, and return the configuration.

        `narrowed` returns the part of a parameter's range to ask for, from the fields that are set so far. The other fields are the
        recipe's. The number of unfrozen stages is reduced to those that the backbone has, that of new stages to the unfrozen ones, the
        accumulation to a divisor of the batch size.
        """
        values = self.recipe.model_dump()
        for parameter in self.parameters:
            if parameter.when(values):
                values[parameter.sets] = parameter.to_field(parameter.suggest(trial, narrowed(parameter, values)), values)
        return self._config(values)

    def default_params(self) -> dict[str, Any]:
        """Return the recipe as Optuna parameters: those that apply, by name, each with the nearest value in its range."""
        return self.check_params({})

    def check_params(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Return the Optuna parameters of a trial that a user asks for: those that apply, from `params` or else from the recipe.

        Parameters in `params` that do not apply are left out. Raises ``ConfigError`` for a name that is not searched, or a value outside
        its range.
        """
        names = [parameter.name for parameter in self.parameters]
        for name in params:
            if name not in names:
                raise ConfigError(f"{name!r} is not searched here{did_you_mean(name, names)}")
        recipe, chosen = self.recipe.model_dump(), {}
        values = dict(recipe)
        for parameter in self.parameters:
            if parameter.when(values):
                asked = params.get(parameter.name)
                default = parameter.nearest(parameter.from_field(recipe[parameter.sets], recipe))
                value = chosen[parameter.name] = default if asked is None else parameter.check(asked)
                values[parameter.sets] = parameter.to_field(value, values)
        self._config(values)
        return chosen

    def config(self, params: Mapping[str, Any]) -> TrialConfig:
        """Return the configuration of a trial from its recorded Optuna parameters: name → value; all other fields are the recipe's."""
        values = self.recipe.model_dump()
        for parameter in self.parameters:
            if parameter.name in params:
                values[parameter.sets] = parameter.to_field(params[parameter.name], values)
        return self._config(values)

    def corners(self) -> Iterator[TrialConfig]:
        """Yield the recipe, and the recipe with one end (or choice) of one parameter, for each of them."""
        recipe = self.recipe.model_dump()
        yield self._config(dict(recipe))
        for parameter in self.parameters:
            for value in parameter.extremes():
                yield self._config(recipe | {parameter.sets: parameter.to_field(value, recipe)})

    def pairs(self) -> Iterator[tuple[str, str, dict[str, Any]]]:
        """Yield the names of two parameters and the fields of the recipe with one end (or choice) of each, for all pairs that can meet."""
        recipe = self.recipe.model_dump()
        for first, second in combinations(self.parameters, 2):
            for value, other in product(first.extremes(), second.extremes()):
                values = recipe | {first.sets: first.to_field(value, recipe)}
                if first.when(recipe) and second.when(values):
                    yield first.name, second.name, self._valid(values | {second.sets: second.to_field(other, values)})

    def possible_values(self, name: str) -> list[Any]:
        """Return the recipe's value of a `TrialConfig` field, and both ends or all choices of each range that sets it."""
        return [getattr(self.recipe, name), *(value for p in self.parameters if p.sets == name for value in p.extremes())]

    def describe(self) -> dict[str, str]:
        """Return the range of every parameter as text: name → text."""
        return {parameter.name: parameter.describe() for parameter in self.parameters}

    def as_json(self) -> dict[str, dict[str, str]]:
        """Return for each parameter, by name, the field that it sets (``sets``) and its range in Optuna's JSON form (``range``)."""
        return {p.name: {"sets": p.sets, "range": distribution_to_json(p.distribution)} for p in self.parameters}

    def _config(self, values: dict[str, Any]) -> TrialConfig:
        return TrialConfig.model_validate(self._valid(values))

    def _valid(self, values: dict[str, Any]) -> dict[str, Any]:
        """Return the fields after those that depend on others have been reduced; changes `values`."""
        values["accumulation"] = math.gcd(values["accumulation"], values["batch_size"])
        values["unfrozen_stages"] = min(values["unfrozen_stages"], self.stages[values["backbone"]])
        values["reinit_stages"] = min(values["reinit_stages"], values["unfrozen_stages"])
        return values
