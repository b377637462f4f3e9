"""Applies a user's changes to the default space: fixed values, lists of choices, and ranges that are narrower or wider."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from search.space.parameter import Parameter, Values
from search.space.space import Space
from trainables.config import TrialConfig, validate
from trainables.errors import ConfigError, did_you_mean

LISTS = ("augmentation_ops", "head")
"""Fields whose value is a list, so that a list fixes them."""


def build_space(recipe: TrialConfig, parameters: Sequence[Parameter], changes: Mapping[str, Any], stages: Mapping[str, int]) -> Space:
    """Return the space of `recipe` and `parameters` after the user's `changes`: name → a value, choices, or ``{low, high, log, step}``.

    A value fixes a field of the recipe; a list or a mapping changes a range. `stages` is each backbone's number of stages. Raises
    ``ConfigError`` for an unknown name, and for a range that is not one or holds a value that a `TrialConfig` does not allow.
    """
    parameters, fixed = _apply_changes(parameters, changes)
    given = validate(TrialConfig, recipe.model_dump() | fixed, "space")
    corners = _corners(given, parameters)
    kept = [parameter for parameter in parameters if parameter.name in changes or any(map(parameter.when, corners))]
    for parameter in kept:
        for value in dict.fromkeys(parameter.to_field(end, values) for end, values in product(parameter.extremes(), corners)):
            validate(TrialConfig, given.model_dump() | {parameter.sets: value}, f"space.{parameter.name}")
    return Space(_rescale(given, recipe, kept), tuple(kept), stages)


def _apply_changes(parameters: Sequence[Parameter], changes: Mapping[str, Any]) -> tuple[list[Parameter], dict[str, Any]]:
    """Return the parameters that are still searched, and the fields of the recipe that are fixed: name → value.

    Parameters that only the user searches come first, because conditions and factors of the others may depend on them.
    Raises ``ConfigError`` for an unknown name, and for a change that gives no value or range.
    """
    searched, added, fixed = {parameter.name: parameter for parameter in parameters}, list[Parameter](), dict[str, Any]()
    names = tuple(searched)
    for name, change in changes.items():
        parameter = searched.get(name)
        if parameter is None:
            if name not in TrialConfig.model_fields:
                raise ConfigError(f"unknown key 'space.{name}'{did_you_mean(name, dict.fromkeys([*names, *TrialConfig.model_fields]))}")
            if not isinstance(change, dict | list) or name in LISTS:
                fixed[name] = change
            else:
                added.append(Parameter(name, name, _distribution(name, _widest_range(name), change)))
        elif isinstance(change, dict | list):
            searched[name] = replace(parameter, distribution=_distribution(name, parameter.distribution, change))
        elif change is None:
            raise ConfigError(f"space.{name} must be a value, a list of choices or low and high, but got nothing")
        else:
            fixed[name] = change
            del searched[name]
    return [*added, *searched.values()], fixed


def _corners(recipe: TrialConfig, parameters: Sequence[Parameter]) -> list[Values]:
    """Return the fields of the recipe, and those of the recipe with one end (or choice) of one of the parameters."""
    values = recipe.model_dump()
    return [values, *(values | {parameter.sets: value} for parameter in parameters for value in parameter.extremes())]


def _rescale(given: TrialConfig, recipe: TrialConfig, kept: Sequence[Parameter]) -> TrialConfig:
    """Return `given`, the `recipe` with the user's fixed fields, so that each searched parameter has the value that it has in `recipe`.

    So the learning rate of the default recipe follows the optimizer that a user fixes.
    """
    before, after = recipe.model_dump(), given.model_dump()
    fields = {p.sets: p.to_field(p.from_field(before[p.sets], before), after) for p in kept if p.factor(before) != p.factor(after)}
    return given.model_copy(update=fields)


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
    except ArithmeticError:
        raise ConfigError(f"{place} has more steps than a number can count; choose a step above {keys['step']:g}") from None
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
