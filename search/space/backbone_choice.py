"""Chooses the backbones that a search tries: those that the user names, else those whose weights can be loaded."""

from typing import Any

from search.config import SearchConfig
from trainables.errors import ConfigError, InjertoError
from trainables.networks.backbones import backbone
from trainables.networks.weights import builtin_backbones, check_weights

DEFAULT_BACKBONES = {
    "builtin": builtin_backbones(),
    "imagenet": ("mobilenet_v3_large", "resnet18", "efficientnet_b0"),
    "none": ("mobilenet_v3_small", "resnet18"),
}
"""Kind of weights → the backbones that are searched if the user names none."""
FILE_BACKBONE = "mobilenet_v3_small"
"""The backbone that is searched with weights from a file if the user names none."""


def choose_backbones(config: SearchConfig, named: Any = None) -> tuple[str, ...]:
    """Return the names of the backbones to search: `config.backbones`, else `named` (``space.backbone``), else the default ones.

    Of the default backbones, those whose weights cannot be loaded are left out; if none is left, this raises the error of the first. Raises
    ``ConfigError`` if `named` is neither a name nor a list of names, for an unknown name, and for a named backbone without built-in
    weights; ``WeightsError`` if the weights of a named backbone cannot be loaded.
    """
    if not isinstance(named, str | list | None) or (isinstance(named, list) and not all(isinstance(name, str) for name in named)):
        raise ConfigError(f"space.backbone takes a name or a list of names but got {named!r}")
    chosen = config.backbones or ((named,) if isinstance(named, str) else tuple(named or ()))
    if chosen:
        for name in chosen:
            backbone(name)
            check_weights(name, config.weights)
        return chosen
    usable, errors = [], []
    for name in DEFAULT_BACKBONES.get(config.weights, (FILE_BACKBONE,)):
        try:
            check_weights(name, config.weights)
            usable.append(name)
        except InjertoError as error:
            errors.append(error)
    if not usable:
        raise errors[0]
    return tuple(usable)
