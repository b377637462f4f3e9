"""What a search may vary: one table of parameters, conditional ones included → Optuna suggestions → a `TrialConfig`."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from optuna import Trial
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution, distribution_to_json

from trainables.config import TrialConfig, validate
from trainables.errors import ConfigError, did_you_mean
from trainables.recipe import largest_batch, rule_epochs

Values = Mapping[str, Any]
LISTS = ("augmentation_ops",)
ADAPTIVE = ("adamw", "rmsprop")


def _always(values: Values) -> bool:
    return True


@dataclass(frozen=True)
class Parameter:
    """One searched parameter: its name in Optuna, the `TrialConfig` field that it sets, its range, and when it applies."""

    name: str
    sets: str
    distribution: BaseDistribution
    when: Callable[[Values], bool] = field(default=_always)

    def suggest(self, trial: Trial) -> Any:
        """Ask Optuna for a value."""
        dist = self.distribution
        if isinstance(dist, CategoricalDistribution):
            return trial.suggest_categorical(self.name, dist.choices)
        if isinstance(dist, IntDistribution):
            return trial.suggest_int(self.name, dist.low, dist.high, step=dist.step, log=dist.log)
        assert isinstance(dist, FloatDistribution)
        return trial.suggest_float(self.name, dist.low, dist.high, step=dist.step, log=dist.log)

    def nearest(self, value: Any) -> Any:
        """Return the allowed value that is nearest to `value`."""
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

    def checked(self, value: Any) -> Any:
        """Return a value of the range. Raises ``ConfigError`` for any other."""
        dist = self.distribution
        wanted = int if isinstance(dist, IntDistribution) else (int, float)
        try:
            plain = isinstance(dist, CategoricalDistribution) or (isinstance(value, wanted) and not isinstance(value, bool))
            inside = plain and dist._contains(dist.to_internal_repr(value))
        except (ValueError, TypeError, OverflowError):
            inside = False
        if not inside:
            raise ConfigError(f"{self.name} must be in {self.in_words()} but got {value!r}")
        return value

    def extremes(self) -> Sequence[Any]:
        """Return the ends of the range, or every choice."""
        dist = self.distribution
        if isinstance(dist, CategoricalDistribution):
            return dist.choices
        assert isinstance(dist, FloatDistribution | IntDistribution)
        return dist.low, dist.high

    def in_words(self) -> str:
        """Return the range as a person writes it."""
        dist = self.distribution
        if isinstance(dist, CategoricalDistribution):
            return ", ".join(str(choice) for choice in dist.choices)
        assert isinstance(dist, FloatDistribution | IntDistribution)
        return f"{dist.low:g} to {dist.high:g}" + (" (log)" if dist.log else f" by {dist.step:g}" if dist.step and dist.step != 1 else "")


def default_parameters(recipe: TrialConfig, *, task: str, images: int, backbones: Sequence[str], stages: int) -> tuple[Parameter, ...]:
    """Return the default space around a recipe, for `images` training images and backbones of at most `stages` stages."""
    batches = tuple(size for size in (16, 32, 64) if size <= largest_batch(images)) or (largest_batch(images),)
    epochs = rule_epochs(images, recipe.batch_size)

    def adaptive(v: Values) -> bool:
        return v["optimizer"] in ADAPTIVE

    def sgd(v: Values) -> bool:
        return bool(v["optimizer"] == "sgd")

    rows = (
        Parameter("backbone", "backbone", CategoricalDistribution(backbones), lambda v: len(backbones) > 1),
        Parameter("optimizer", "optimizer", CategoricalDistribution(("adamw", "sgd"))),
        Parameter("learning_rate", "learning_rate", FloatDistribution(1e-4, 1e-2, log=True), adaptive),
        Parameter("learning_rate_sgd", "learning_rate", FloatDistribution(1e-3, 3e-1, log=True), sgd),
        Parameter("momentum", "momentum", CategoricalDistribution((0.0, 0.9)), sgd),
        Parameter("weight_decay", "weight_decay", FloatDistribution(1e-5, 1e-1, log=True), adaptive),
        Parameter("weight_decay_sgd", "weight_decay", FloatDistribution(1e-6, 1e-3, log=True), sgd),
        Parameter("unfrozen_stages", "unfrozen_stages", IntDistribution(0, stages)),
        Parameter("stage_lr_decay", "stage_lr_decay", FloatDistribution(0.3, 1.0), lambda v: v["unfrozen_stages"] >= 1),
        Parameter("epochs", "epochs", IntDistribution(max(1, epochs // 2), epochs * 2, log=True)),
        Parameter("batch_size", "batch_size", CategoricalDistribution(batches)),
        Parameter("head_layers", "head_layers", IntDistribution(0, 2)),
        Parameter("head_units", "head_units", CategoricalDistribution((128, 256, 512, 1024)), lambda v: v["head_layers"] >= 1),
        Parameter(
            "initializer",
            "initializer",
            CategoricalDistribution(("trunc_normal", "xavier_uniform", "kaiming_normal", "orthogonal", "zeros_last")),
        ),
        Parameter("dropout", "dropout", FloatDistribution(0.0, 0.5, step=0.1)),
        Parameter("label_smoothing", "label_smoothing", CategoricalDistribution((0.0, 0.05, 0.1)), lambda v: task == "multiclass"),
        Parameter("augmentation_strength", "augmentation_strength", FloatDistribution(0.0, 1.0, step=0.125)),
    )
    return tuple(row for row in rows if row.name not in {"backbone", "label_smoothing"} or row.when({}))


@dataclass(frozen=True)
class Space:
    """A recipe and the parameters that may depart from it."""

    recipe: TrialConfig
    parameters: tuple[Parameter, ...]
    stages: Mapping[str, int]

    def suggest(self, trial: Trial) -> TrialConfig:
        """Ask Optuna for each parameter that applies, in order, and return the configuration."""
        values = self.recipe.model_dump()
        for parameter in self.parameters:
            if parameter.when(values):
                values[parameter.sets] = parameter.suggest(trial)
        return self._config(values)

    def default_params(self) -> dict[str, Any]:
        """Return the recipe as Optuna parameters, each brought into its range."""
        values, params = self.recipe.model_dump(), {}
        for parameter in self.parameters:
            if parameter.when(values):
                values[parameter.sets] = params[parameter.name] = parameter.nearest(values[parameter.sets])
        return params

    def checked(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Return parameters for a trial that someone asks for: those that apply, where they are not given the recipe's.

        Raises ``ConfigError`` for a name that is not searched, or a value outside its range.
        """
        names = [parameter.name for parameter in self.parameters]
        for name in params:
            if name not in names:
                raise ConfigError(f"{name!r} is not searched here{did_you_mean(name, names)}")
        values, chosen = self.recipe.model_dump(), {}
        for parameter in self.parameters:
            if parameter.when(values):
                asked = params.get(parameter.name)
                value = parameter.nearest(values[parameter.sets]) if asked is None else parameter.checked(asked)
                values[parameter.sets] = chosen[parameter.name] = value
        self._config(values)
        return chosen

    def config(self, params: Mapping[str, Any]) -> TrialConfig:
        """Return the configuration that recorded Optuna parameters stand for."""
        values = self.recipe.model_dump()
        values |= {p.sets: params[p.name] for p in self.parameters if p.name in params}
        return self._config(values)

    def reached(self, name: str) -> list[Any]:
        """Return the values that a `TrialConfig` field may take: the recipe's, and the ends or the choices of its range."""
        return [getattr(self.recipe, name), *(value for p in self.parameters if p.sets == name for value in p.extremes())]

    def in_words(self) -> dict[str, str]:
        """Return every parameter's range as text."""
        return {parameter.name: parameter.in_words() for parameter in self.parameters}

    def as_json(self) -> dict[str, dict[str, str]]:
        """Return each parameter's field and range for other programs, the range as Optuna writes it."""
        return {p.name: {"sets": p.sets, "range": distribution_to_json(p.distribution)} for p in self.parameters}

    def _config(self, values: dict[str, Any]) -> TrialConfig:
        values["accumulation"] = math.gcd(values["accumulation"], values["batch_size"])
        values["unfrozen_stages"] = min(values["unfrozen_stages"], self.stages[values["backbone"]])
        return TrialConfig.model_validate(values)


def build_space(recipe: TrialConfig, parameters: Sequence[Parameter], changes: Mapping[str, Any], stages: Mapping[str, int]) -> Space:
    """Fix, narrow or widen parameters by `changes`: name → a value, a list of choices, or ``{low, high, log, step}``.

    Raises ``ConfigError`` for a name that is not searched or a range that is not one.
    """
    names = [parameter.name for parameter in parameters]
    fixed: dict[str, Any] = {}
    kept = list(parameters)
    for name, change in changes.items():
        if name not in names:
            if name not in TrialConfig.model_fields:
                raise ConfigError(f"unknown key 'space.{name}'{did_you_mean(name, [*names, *TrialConfig.model_fields])}")
            if not isinstance(change, dict | list) or name in LISTS:
                fixed[name] = change
            else:
                kept.append(Parameter(name, name, _distribution(name, _open_range(name), change)))
            continue
        place = [parameter.name for parameter in kept].index(name)
        if isinstance(change, dict | list):
            kept[place] = replace(kept[place], distribution=_distribution(name, kept[place].distribution, change))
        elif change is None:
            raise ConfigError(f"space.{name} must be a value, a list of choices or low and high, but got nothing")
        elif kept[place].sets == name:
            fixed[name] = change
            del kept[place]
        else:  # it sets its field for one optimizer only
            kept[place] = replace(kept[place], distribution=_distribution(name, kept[place].distribution, [change]))
    recipe = validate(TrialConfig, recipe.model_dump() | fixed, "space")
    kept = [parameter for parameter in kept if parameter.sets not in fixed or parameter.name in changes]
    _refuse_unused(changes, recipe, kept)
    kept = [parameter for parameter in kept if parameter.name in changes or _can_apply(parameter, recipe, kept)]
    space = Space(recipe, tuple(kept), stages)
    for parameter in kept:
        for value in parameter.extremes():
            validate(TrialConfig, recipe.model_dump() | {parameter.sets: value}, f"space.{parameter.name}")
    return space


def _can_apply(parameter: Parameter, recipe: TrialConfig, kept: Sequence[Parameter]) -> bool:
    """Say whether a conditional parameter applies for the recipe or for any value of one other parameter."""
    values = recipe.model_dump()
    return any(parameter.when(values | {other.sets: value}) for other in kept for value in other.extremes()) or parameter.when(values)


def _refuse_unused(changes: Mapping[str, Any], recipe: TrialConfig, kept: Sequence[Parameter]) -> None:
    if any(parameter.sets == "optimizer" for parameter in kept):
        return
    values = recipe.model_dump()
    used = {parameter.sets: parameter.name for parameter in kept if parameter.when(values)}
    for parameter in kept:
        instead = used.get(parameter.sets, parameter.name)
        if parameter.name in changes and instead != parameter.name:
            raise ConfigError(f"space.{parameter.name} does not apply where the optimizer is {recipe.optimizer}; set space.{instead}")


def _distribution(name: str, old: BaseDistribution, change: Any) -> BaseDistribution:
    place = f"space.{name}"
    if isinstance(change, list):
        if not change or not all(isinstance(choice, str | int | float | bool) for choice in change):
            raise ConfigError(f"{place} must list at least one plain value but got {change!r}")
        return CategoricalDistribution(change)
    if isinstance(old, CategoricalDistribution):
        raise ConfigError(f"{place} takes a value or a list of choices but got {change!r}")
    assert isinstance(old, FloatDistribution | IntDistribution)
    keys: dict[str, Any] = {"low": old.low, "high": old.high, "log": old.log, "step": old.step}
    for key, value in change.items():
        if key not in keys:
            raise ConfigError(f"unknown key '{place}.{key}'{did_you_mean(key, keys)}")
        number = (int, "a whole number") if isinstance(old, IntDistribution) else ((int, float), "a number")
        wanted, words = (bool, "true or false") if key == "log" else number
        if not isinstance(value, wanted) or (key != "log" and isinstance(value, bool)):
            raise ConfigError(f"{place}.{key} must be {words} but got {value!r}")
    keys |= change
    if keys["log"]:
        keys["step"] = 1 if isinstance(old, IntDistribution) else None
    try:
        return type(old)(**keys)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{place} is not a range: {error}") from None


def _open_range(name: str) -> BaseDistribution:
    kind = TrialConfig.model_fields[name].annotation
    if kind is int:
        return IntDistribution(0, 2**31)
    return FloatDistribution(0.0, 1e9) if kind is float else CategoricalDistribution(("",))
