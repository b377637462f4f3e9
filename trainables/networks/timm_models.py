"""timm's networks: what a name stands for, and how to build one. timm is imported in functions only, because that takes seconds."""

from collections.abc import Iterator
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from trainables.errors import ConfigError, WeightsError, did_you_mean
from trainables.networks.backbone_row import TIMM_PREFIX, Backbone, Stages
from trainables.networks.timm_stages import timm_stages

WEIGHTS_FILE = "model.safetensors"
SIZE_STEP = 32  # pixels; usual in networks whose maps are halved five times
FARTHEST = 16  # steps that `_nearest_sizes` goes from a size that a network cannot take


@lru_cache(maxsize=64)
def describe(name: str) -> Backbone:
    """Return the row of a network of timm from its name, such as ``timm:convnext_tiny.fb_in22k_ft_in1k``.

    Without the part after the dot it has timm's default weights. Sizes and statistics are those of timm's ``pretrained_cfg``, the width is
    that of a forward pass. Raises ``ConfigError`` for a name that timm does not have, and for a network without groups of parameters or
    pooled features.
    """
    timm_name, config = _find(name.removeprefix(TIMM_PREFIX))
    size = config.input_size[1]
    with torch.device("meta"):
        network = _create(timm_name)
    stages = _stages(name, network)
    features = _features(network, size)
    if features is None or features.ndim != 2:
        raise ConfigError(f"{name} gives no pooled features of {config.input_size} images; choose another backbone")
    feature_info: Any = network.feature_info
    reductions = {feature["reduction"] for feature in list(feature_info)}
    return Backbone(
        name=name,
        family=type(network).__name__.lower(),
        stages=stages,
        width=features.shape[1],
        native_size=size,
        minimum_size=1,
        size_step=reductions.pop() if len(reductions) == 1 else 1,  # one reduction: patches
        fixed_size=config.fixed_input_size,
        weights_file=config.hf_hub_filename or WEIGHTS_FILE,
        mean=config.mean,
        std=config.std,
        pooling="own",
        origin="hub",
        location=config.hf_hub_id or "",
        timm_name=timm_name,
    )


def check_timm_size(row: Backbone, image_size: int) -> None:
    """Raise ``ConfigError``, with the nearest sizes that do, if a network of timm cannot take images with sides of `image_size` pixels."""
    if _takes(row, image_size):
        return
    near = [str(size) for size in _nearest_sizes(row, image_size)] or [str(row.native_size)]
    patches = f", because its patches have {row.size_step}" if row.size_step > 1 else ""
    raise ConfigError(
        f"{row.name} cannot take images of {image_size} pixels{patches}; it takes {' and '.join(near)}: "
        f"pass --set image_size={near[-1]} or choose another backbone"
    )


def build_timm_network(row: Backbone, image_size: int | None = None) -> nn.Module:
    """Return timm's network of a row without classifier, with timm's random initialisation, for images of `image_size` pixels."""
    return _create(str(row.timm_name), **_size_option(row, image_size))


def pretrained_tensors(row: Backbone, path: Path, image_size: int | None) -> dict[str, Tensor]:
    """Return the tensors of a row's network as timm loads them from a file of its weights, for images of `image_size` pixels.

    timm renames tensors of older files, and resizes position embeddings. Raises ``WeightsError`` if timm cannot load the file.
    """
    overlay = {"file": str(path)}
    try:
        network = _create(str(row.timm_name), pretrained=True, pretrained_cfg_overlay=overlay, **_size_option(row, image_size))
    except Exception as error:  # a damaged file raises many kinds of errors
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise WeightsError(f"timm cannot load {path} into {row.name} ({reason}); delete that file and start again") from None
    return network.state_dict()


def _create(timm_name: str, **options: Any) -> nn.Module:
    import timm

    network: nn.Module = timm.create_model(timm_name, num_classes=0, **options)
    return network


def _size_option(row: Backbone, image_size: int | None) -> dict[str, int]:
    return {"img_size": image_size} if row.fixed_size and image_size and image_size != row.native_size else {}


def _find(timm_name: str) -> tuple[str, Any]:
    """Return a name that timm has, and its ``PretrainedCfg``. Raises ``ConfigError`` for one that it does not have."""
    import timm
    from timm.models import get_arch_pretrained_cfgs

    architecture, _, tag = timm_name.partition(".")
    if not timm.is_model(architecture):
        near = get_close_matches(architecture, timm.list_models(), n=1)
        advice = f"did you mean {TIMM_PREFIX}{near[0]}?" if near else "`python -c 'import timm; print(*timm.list_models())'` lists all"
        raise ConfigError(f"timm has no network {architecture!r}; {advice}")
    configs = get_arch_pretrained_cfgs(architecture)
    if tag and timm_name not in configs:
        tags = [name.partition(".")[2] for name, config in configs.items() if config.has_weights]
        raise ConfigError(f"timm has no weights {tag!r} for {architecture!r}{did_you_mean(tag, tags)}")
    return timm_name, timm.get_pretrained_cfg(timm_name) or timm.models.PretrainedCfg()


def _stages(name: str, network: nn.Module) -> Stages:
    try:
        return timm_stages(network)
    except (AttributeError, AssertionError, NotImplementedError) as error:  # timm has no groups for this network
        raise ConfigError(f"{name} cannot be divided into stages by timm ({error}); choose another backbone") from None


def _features(network: nn.Module, image_size: int) -> Tensor | None:
    """Return what a network without values gives for images of `image_size` pixels; None if it cannot take them."""
    try:
        with torch.no_grad():
            features: Tensor = network.eval()(torch.empty(1, 3, image_size, image_size, device="meta"))
    except Exception:  # networks refuse sizes with many kinds of errors
        return None
    return features


@lru_cache(maxsize=256)
def _takes(row: Backbone, image_size: int) -> bool:
    if image_size < 1 or image_size % row.size_step:
        return False
    try:
        with torch.device("meta"):
            network = build_timm_network(row, image_size)
    except Exception:  # as in `_features`
        return False
    return _features(network, image_size) is not None


def _nearest_sizes(row: Backbone, image_size: int) -> Iterator[int]:
    """Yield the nearest size below `image_size` that a network takes, and the nearest above; nothing for one that is too far away."""
    step = row.size_step if row.size_step > 1 else SIZE_STEP
    middle = image_size // step
    for multiples in (range(middle, max(0, middle - FARTHEST), -1), range(middle + 1, middle + FARTHEST)):
        nearest = next((multiple * step for multiple in multiples if _takes(row, multiple * step)), None)
        if nearest:
            yield nearest
