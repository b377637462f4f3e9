"""Chooses the backbones that a search tries: those that the user names, else those whose weights are on this machine."""

from typing import Any

from search.config import SearchConfig
from trainables.errors import ConfigError, WeightsError
from trainables.networks.backbones import backbone
from trainables.networks.weights import backbones_at_hand, check_weights

DEFAULT_BACKBONES = {
    "imagenet": ("efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2", "efficientnet_b0", "resnet50", "convnext_tiny"),
    "none": ("mobilenet_v3_small", "resnet18"),
}
"""Kind of weights → the backbones that are searched if the user names none; of those with ImageNet weights only the ones at hand."""
FILE_BACKBONE = "efficientnet_lite0"
"""The backbone that is searched with weights from a file if the user names none."""


def choose_backbones(config: SearchConfig, named: Any = None) -> tuple[str, ...]:
    """Return the names of the backbones to search: `config.backbones`, else `named` (``space.backbone``), else the default ones.

    Of the default backbones with ImageNet weights, those are searched whose weights are installed or in a cache of this machine. What is
    searched never depends on an answer of the network. Raises ``ConfigError`` if `named` is neither a name nor a list of names, if both
    name different backbones, and for an unknown name; ``WeightsError``, with a line for each backbone, if weights are damaged, or neither
    at hand nor reachable.
    """
    if not isinstance(named, str | list | None) or (isinstance(named, list) and not all(isinstance(name, str) for name in named)):
        raise ConfigError(f"space.backbone takes a name or a list of names but got {named!r}")
    in_space = (named,) if isinstance(named, str) else tuple(named or ())
    if config.backbones and in_space and config.backbones != in_space:
        raise ConfigError(f"backbones {[*config.backbones]} and space.backbone {[*in_space]} name different networks; remove one of them")
    chosen = config.backbones or in_space
    for name in chosen:
        backbone(name)
    if not chosen:
        default = DEFAULT_BACKBONES.get(config.weights, (FILE_BACKBONE,))
        chosen = (backbones_at_hand(default) or default[:1]) if config.weights == "imagenet" else default
    missing = [problem for name in chosen if (problem := _missing_weights(name, config.weights))]
    if missing:
        raise WeightsError("\n".join(missing))
    return chosen


def _missing_weights(name: str, weights: str) -> str:
    """Return why a backbone's weights cannot be used, empty if they can. Raises ``ConfigError`` for an unknown kind of weights."""
    try:
        check_weights(name, weights)
    except WeightsError as error:
        return str(error)
    return ""
