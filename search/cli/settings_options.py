"""The options that set a search's configuration, and the decorator that gives them to a command."""

from collections.abc import Callable
from functools import wraps
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import typer

from search.config import SearchConfig, find_setting
from search.config_reader import SHORTHANDS, read_config

TYPES: dict[str, Any] = {
    "trials": int,
    "time_budget": str,
    "gpu_hours": float,
    "target": float,
    "no_improvement": int,
    "name": str,
    "task": str,
    "metric": str,
    "preset": str,
    "weights": str,
    "image_size": int,
    "seed": int,
    "max_concurrent_trials": int,
    "address": str,
    "storage": str,
    "output": Path,
    "root": str,
    "strict": bool,
}
"""Option → its type, in the order of ``--help``. Its key is in `SHORTHANDS`; its help and its default are those of `SearchConfig`."""
SOURCE = Annotated[str, typer.Argument(help="Images: a folder, a CSV, builtin:digits; or a YAML file of settings.", show_default=True)]
SETTINGS = Annotated[list[str] | None, typer.Option("--set", help="Any key of the file, such as space.learning_rate.high=0.01.")]


def takes_settings(command: Callable[..., None]) -> Callable[..., None]:
    """Decorate a command whose first argument is a `SearchConfig`: on the command line it takes a source and the options of a search.

    Typer reads a command's options from its signature, so the returned function has one that holds the options of the search and then the
    command's own. An option of `TYPES` that the command has itself is left out. Errors in the options raise ``ConfigError``.
    """
    own = list(signature(command).parameters.values())[1:]
    shared = [name for name in TYPES if name not in {parameter.name for parameter in own}]

    @wraps(command)
    def run(*, source: str, settings: list[str] | None, **options: Any) -> None:
        given = {name: options.pop(name) for name in shared}
        command(read_config(source, given, tuple(settings or ())), **options)

    parameters = [
        _keyword("source", SOURCE, "builtin:digits"),
        *(_keyword(name, option(name), None) for name in shared),
        _keyword("settings", SETTINGS, None),
        *own,
    ]
    run.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


def option(name: str) -> Any:
    """Return the annotation of an option for Typer: its type, or None if the option is not given, and its help from `SearchConfig`."""
    flags = ["--strict"] if TYPES[name] is bool else []  # without a --no-strict
    return Annotated[TYPES[name] | None, typer.Option(*flags, help=option_help(name), show_default=False)]


def option_help(name: str) -> str:
    """Return the help of an option: the setting's description as a sentence, then its allowed values and its default, if any."""
    field = find_setting(SearchConfig, SHORTHANDS[name])
    text = str(field.description)
    literals = [kind for kind in (field.annotation, *get_args(field.annotation)) if get_origin(kind) is Literal]
    choices = f" ({', '.join(choice for literal in literals for choice in get_args(literal))})" if literals else ""
    default = "" if field.default is None or field.default is False else rf"  \[default: {field.default}]"  # "\[" begins no Rich markup
    return f"{text[0].upper()}{text[1:]}{choices}.{default}"


def _keyword(name: str, annotation: Any, default: Any) -> Parameter:
    return Parameter(name, Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
