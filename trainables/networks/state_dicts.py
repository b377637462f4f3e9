"""Reads a file of weights and picks the tensors of a body from it.

The file is not trusted: pickles are read with ``weights_only=True``, keys and shapes are compared, and the values must be finite.
"""

import argparse
import pickle
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from trainables.errors import WeightsError
from trainables.networks.backbone_row import Backbone
from trainables.networks.backbones import BACKBONES
from trainables.networks.bodies import Body, build_empty_body
from trainables.networks.packaged_weights import has_packaged_names, with_timm_names

WRAPPERS = ("state_dict_ema", "model_ema", "state_dict", "model")
"""Entries that hold the tensors, averaged ones first, as in ``timm.models.load_state_dict``; Lightning has ``state_dict``."""
PREFIXES = ("module.", "_orig_mod.", "model.", "backbone.", "net.")
"""What wrappers put before every key: data parallelism, ``torch.compile``, and modules that hold the network."""
HEAD_KEYS = ("fc.", "classifier.", "aux1.", "aux2.", "AuxLogits.", "head.", "head_dist.")
COUNTERS = ("num_batches_tracked", "n_averaged")
# torchvision/models/densenet.py, _load_state_dict: "denselayer1.norm.1.weight" is called "denselayer1.norm1.weight" today
LEGACY_DENSENET = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12])\.")


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a file on the CPU, by the keys of the network that it holds.

    Takes them from an entry of `WRAPPERS`, and removes those of `PREFIXES` that most keys share. Raises ``WeightsError`` for a file that is
    damaged, that could run code, or that holds no tensors.
    """
    value: Any
    if not path.stat().st_size:
        raise WeightsError(f"{path} is empty; save the network's weights there again, or name another file")
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):  # the arguments in timm's checkpoints
            value = load_file(path) if path.suffix == ".safetensors" else torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "Unsupported global" not in str(error):
            raise WeightsError(f"{path} is damaged or no file of weights; name another file") from None
        raise WeightsError(
            f"{path} holds Python objects besides tensors, which could run code, so it was not read; save only the network's weights: "
            f"torch.save(network.state_dict(), {path.name!r})"
        ) from None
    except Exception as error:  # a damaged file raises many kinds of errors
        first = str(error).partition("\n")[0].partition(". ")[0]
        reason = f" ({first})" if len(first) > 8 else ""  # torch's reason for a text is "101"
        raise WeightsError(f"{path} is damaged or no file of weights{reason}; name another file") from None
    for wrapper in WRAPPERS:
        if isinstance(value, Mapping) and isinstance(value.get(wrapper), Mapping):
            value = value[wrapper]
    tensors = {str(key): tensor for key, tensor in value.items() if isinstance(tensor, Tensor)} if isinstance(value, Mapping) else {}
    if not tensors:
        raise WeightsError(f"{path} holds no tensors by name; save the network's state_dict")
    return {LEGACY_DENSENET.sub(r"\1\2.", key): tensor for key, tensor in _without_prefixes(tensors).items()}


def _without_prefixes(tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Return tensors without a prefix that most keys share, again and again. Keys without it, such as those of a head, stay."""
    while prefix := next((prefix for prefix in PREFIXES if 2 * sum(key.startswith(prefix) for key in tensors) > len(tensors)), None):
        tensors = {key.removeprefix(prefix): tensor for key, tensor in tensors.items()}
    return tensors


def matching_tensors(tensors: Mapping[str, Tensor], body: Body, name: str, path: Path) -> dict[str, Tensor]:
    """Return those of a file's `tensors` that belong to a body, as float32 by their keys in `body.trunk`. Keys of a head are left out.

    Raises ``WeightsError`` if one is missing, unknown, of another shape or not finite. The message holds `path` and `name`, the body's
    backbone, and names the backbone that the tensors fit, if any.
    """
    named = _with_names_of(body, tensors)
    problems = _mismatch(named, body)
    if any(problems.values()):
        counts = ", ".join(f"{len(keys)} keys {what}" for what, keys in problems.items() if keys)
        first = ", ".join([key for keys in problems.values() for key in keys][:3])
        row = next((row for row in BACKBONES.values() if row.name != name and _fits(tensors, row)), None)
        advice = f"they fit {row.name}" if row else "name the network that they belong to, such as backbones: [timm:NAME]"
        raise WeightsError(f"the weights in {path} do not fit {name}: {counts} ({first}); {advice}")
    own = {key: named[key].float() for key in _tensors_of(body)}
    broken = [key for key, tensor in own.items() if not tensor.isfinite().all()]
    if broken:
        raise WeightsError(
            f"the weights in {path} hold values that are not finite, in {len(broken)} tensors ({', '.join(broken[:3])}); use another file"
        )
    return own


def _with_names_of(body: Body, tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Return tensors under the names, and with the shapes, of a body, where they are those of a package or of timm's older files."""
    if has_packaged_names(tensors) and hasattr(body.trunk, "conv_stem"):
        return with_timm_names(tensors, body.trunk)
    return _as_timm_loads(tensors, body.trunk) if any(_mismatch(tensors, body).values()) else tensors


def _as_timm_loads(tensors: Mapping[str, Tensor], trunk: nn.Module) -> Mapping[str, Tensor]:
    """Return tensors after timm's ``checkpoint_filter_fn`` for a network, which also resizes position embeddings; else unchanged."""
    convert = getattr(sys.modules[type(trunk).__module__], "checkpoint_filter_fn", None)
    try:
        return convert(dict(tensors), trunk) if convert else tensors
    except Exception:  # timm expects a file of this kind of network
        return tensors


def _tensors_of(body: Body) -> dict[str, Tensor]:
    return {key: tensor for key, tensor in body.trunk.state_dict().items() if tensor.is_floating_point()}


def _mismatch(tensors: Mapping[str, Tensor], body: Body) -> dict[str, list[str]]:
    own, known = _tensors_of(body), body.trunk.state_dict()
    return {
        "missing": [key for key in own if key not in tensors],
        "of another shape": [key for key in own if key in tensors and not _same_shape(tensors[key], own[key])],
        "unknown": [key for key in tensors if key not in known and not key.startswith(HEAD_KEYS) and not key.endswith(COUNTERS)],
    }


def _same_shape(tensor: Tensor, own: Tensor) -> bool:
    return tensor.shape == own.shape and tensor.is_floating_point() and tensor.layout == torch.strided


def _fits(tensors: Mapping[str, Tensor], row: Backbone) -> bool:
    known = (*(f"{module}." for stage in row.stages for module in stage), *HEAD_KEYS)
    if not all(key.startswith(known) for key in tensors) and not (has_packaged_names(tensors) and row.origin == "package"):
        return False
    body = build_empty_body(row.name)
    return not any(_mismatch(_with_names_of(body, tensors), body).values())
