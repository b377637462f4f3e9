"""Which backbones a search tries: those that the user names, else those whose weights can be loaded."""

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
"""The backbone for weights from a file."""


def choose_backbones(config: SearchConfig, named: Any = None) -> tuple[str, ...]:
    """Return the backbones to search: those of `config.backbones`, else `named` (``space.backbone``: a name or a list), else the default.

    Of the default backbones, those whose weights cannot be loaded are left out. Raises ``ConfigError`` for a name that is unknown,
    ``WeightsError`` if a named backbone, or no default one, has the weights.
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
