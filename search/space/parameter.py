"""One searched parameter: its range, and the field of a configuration that it sets."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from optuna import Trial
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from trainables.errors import ConfigError

Values = Mapping[str, Any]
"""Fields of a `TrialConfig` by name."""


def always(values: Values) -> bool:
    """Return True: the condition of a parameter that applies to every configuration."""
    return True


def unscaled(values: Values) -> float:
    """Return 1: the factor of a parameter whose value is the field's value."""
    return 1.0


@dataclass(frozen=True)
class Parameter:
    """One searched parameter: its name in Optuna, the `TrialConfig` field that it sets, its range, and when it applies.

    Several parameters can set one field, each under its own condition. `when` gets the fields of the configuration that are set so far: the
    recipe's, with the values of the parameters before this one. So does `factor`: the field's value is the parameter's times this.
    """

    name: str
    sets: str
    distribution: BaseDistribution
    when: Callable[[Values], bool] = field(default=always)
    factor: Callable[[Values], float] = field(default=unscaled)

    def to_field(self, value: Any, values: Values) -> Any:
        """Return the field's value for a value of this parameter, where `values` are the fields that are set so far."""
        factor = self.factor(values)
        return value if factor == 1 else value * factor

    def from_field(self, value: Any, values: Values) -> Any:
        """Return the value of this parameter that gives a field's value: the inverse of `to_field`."""
        factor = self.factor(values)
        return value if factor == 1 else value / factor

    def suggest(self, trial: Trial, within: BaseDistribution | None = None) -> Any:
        """Return the value that Optuna suggests to `trial` for this parameter: in its range, or in the part `within` of it."""
        dist = within or self.distribution
        if isinstance(dist, CategoricalDistribution):
            return trial.suggest_categorical(self.name, dist.choices)
        if isinstance(dist, IntDistribution):
            return trial.suggest_int(self.name, dist.low, dist.high, step=dist.step, log=dist.log)
        assert isinstance(dist, FloatDistribution)
        return trial.suggest_float(self.name, dist.low, dist.high, step=dist.step, log=dist.log)

    def nearest(self, value: Any) -> Any:
        """Return the value in the range that is nearest to `value`.

        Among choices that are not all numbers there is no nearest: then return `value` if it is one of them, else the first choice.
        """
        dist = self.distribution
        if isinstance(dist, CategoricalDistribution):
            numbers = all(isinstance(choice, int | float) for choice in dist.choices)
            if value in dist.choices or not (numbers and isinstance(value, int | float)):
                return value if value in dist.choices else dist.choices[0]
            return min(dist.choices, key=lambda choice: abs(choice - value))
        assert isinstance(dist, FloatDistribution | IntDistribution)
        value = min(max(value, dist.low), dist.high)
        if dist.step and not dist.log:
            value = dist.low + round((value - dist.low) / dist.step) * dist.step
        return round(value) if isinstance(dist, IntDistribution) else value

    def check(self, value: Any) -> Any:
        """Return `value` unchanged. Raises ``ConfigError`` if it has another type or is not in the range."""
        dist = self.distribution
        numbers = int if isinstance(dist, IntDistribution) else (int, float)
        try:
            right_type = isinstance(dist, CategoricalDistribution) or (isinstance(value, numbers) and not isinstance(value, bool))
            inside = right_type and dist._contains(dist.to_internal_repr(value))
        except (ValueError, TypeError, OverflowError):
            inside = False
        if not inside:
            raise ConfigError(f"{self.name} must be in {self.describe()} but got {value!r}")
        return value

    def extremes(self) -> Sequence[Any]:
        """Return the lowest and the highest value of a numeric range, or all choices of a categorical one."""
        dist = self.distribution
        if isinstance(dist, CategoricalDistribution):
            return dist.choices
        assert isinstance(dist, FloatDistribution | IntDistribution)
        return dist.low, dist.high

    def describe(self) -> str:
        """Return the range as text, such as ``0.0001 to 0.01 (log)``, or the choices, such as ``adamw, sgd``."""
        dist = self.distribution
        if isinstance(dist, CategoricalDistribution):
            return ", ".join(str(choice) for choice in dist.choices)
        assert isinstance(dist, FloatDistribution | IntDistribution)
        return f"{dist.low:g} to {dist.high:g}" + (" (log)" if dist.log else f" by {dist.step:g}" if dist.step and dist.step != 1 else "")
