"""Applies a user's changes to the default space: fixed values, lists of choices, and ranges that are narrower or wider."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from search.space.parameter import Parameter
from search.space.space import Space
from trainables.config import TrialConfig, validate
from trainables.errors import ConfigError, did_you_mean

LISTS = ("augmentation_ops", "head")
"""Fields whose value is a list, so that a list fixes them."""


def build_space(recipe: TrialConfig, parameters: Sequence[Parameter], changes: Mapping[str, Any], stages: Mapping[str, int]) -> Space:
    """Return the space of `recipe` and `parameters` after the user's `changes`: name → a value, choices, or ``{low, high, log, step}``.

    A value fixes a field of the recipe; a list or a mapping changes a range. `stages` is each backbone's number of stages. Raises
    ``ConfigError`` for a name that is unknown or does not apply, and for a range that is not one or holds a value that a `TrialConfig` does
    not allow.
    """
    changed, fixed = _apply_changes(parameters, changes)
    recipe = validate(TrialConfig, recipe.model_dump() | fixed, "space")
    kept = [parameter for parameter in changed if parameter.sets not in fixed or parameter.name in changes]
    _check_that_changes_apply(changes, recipe, kept)
    kept = [parameter for parameter in kept if parameter.name in changes or _can_apply(parameter, recipe, kept)]
    for parameter in kept:
        for value in parameter.extremes():
            validate(TrialConfig, recipe.model_dump() | {parameter.sets: value}, f"space.{parameter.name}")
    return Space(recipe, tuple(kept), stages)


def _apply_changes(parameters: Sequence[Parameter], changes: Mapping[str, Any]) -> tuple[list[Parameter], dict[str, Any]]:
    """Return the parameters that are still searched, and the fields of the recipe that are fixed: name → value.

    Raises ``ConfigError`` for an unknown name, and for a change that gives no value or range.
    """
    kept, fixed = {parameter.name: parameter for parameter in parameters}, dict[str, Any]()
    names = tuple(kept)
    for name, change in changes.items():
        parameter = kept.get(name)
        if parameter is None:
            if name not in TrialConfig.model_fields:
                raise ConfigError(f"unknown key 'space.{name}'{did_you_mean(name, [*names, *TrialConfig.model_fields])}")
            if not isinstance(change, dict | list) or name in LISTS:
                fixed[name] = change
            else:
                kept[name] = Parameter(name, name, _distribution(name, _widest_range(name), change))
        elif isinstance(change, dict | list):
            kept[name] = replace(parameter, distribution=_distribution(name, parameter.distribution, change))
        elif change is None:
            raise ConfigError(f"space.{name} must be a value, a list of choices or low and high, but got nothing")
        elif parameter.sets == name:
            fixed[name] = change
            del kept[name]
        else:  # it sets its field for one optimizer only
            kept[name] = replace(parameter, distribution=_distribution(name, parameter.distribution, [change]))
    return list(kept.values()), fixed


def _can_apply(parameter: Parameter, recipe: TrialConfig, kept: Sequence[Parameter]) -> bool:
    """Return whether a parameter applies to the recipe, or to the recipe with one end (or choice) of one parameter in `kept`."""
    values = recipe.model_dump()
    return any(parameter.when(values | {other.sets: value}) for other in kept for value in other.extremes()) or parameter.when(values)


def _check_that_changes_apply(changes: Mapping[str, Any], recipe: TrialConfig, kept: Sequence[Parameter]) -> None:
    """Raise ``ConfigError`` for a changed parameter of another optimizer than the recipe's, if the optimizer is not searched.

    `kept` are the parameters that are still searched.
    """
    if any(parameter.sets == "optimizer" for parameter in kept):
        return
    values = recipe.model_dump()
    used = {parameter.sets: parameter.name for parameter in kept if parameter.when(values)}
    for parameter in kept:
        instead = used.get(parameter.sets, parameter.name)
        if parameter.name in changes and instead != parameter.name:
            raise ConfigError(f"space.{parameter.name} does not apply where the optimizer is {recipe.optimizer}; set space.{instead}")


def _distribution(name: str, old: BaseDistribution, change: Any) -> BaseDistribution:
    """Return the distribution that a user's change, a list of choices or ``{low, high, log, step}``, makes of the old one.

    Keys that are not given keep their old values. Raises ``ConfigError`` for a change that makes no distribution of this type.
    """
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
        kind, words = (bool, "true or false") if key == "log" else number
        if not isinstance(value, kind) or (key != "log" and isinstance(value, bool)):
            raise ConfigError(f"{place}.{key} must be {words} but got {value!r}")
    keys |= change
    if keys["log"]:
        keys["step"] = 1 if isinstance(old, IntDistribution) else None
    try:
        return type(old)(**keys)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{place} is not a range: {error}") from None


def _widest_range(name: str) -> BaseDistribution:
    """Return a range for a field that is not searched by default, so that a user's change can narrow it.

    It is wider than the field allows; `build_space` validates its ends. A field that is no number gets choices, which the user must list.
    """
    kind = TrialConfig.model_fields[name].annotation
    if kind is int:
        return IntDistribution(0, 2**31)
    return FloatDistribution(0.0, 1e9) if kind is float else CategoricalDistribution(("",))
