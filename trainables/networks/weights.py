"""Pretrained weights for a body: the published ones of the backbone, a file, or none. Light to import."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from trainables.errors import ConfigError, WeightsError
from trainables.networks.backbone_row import Backbone
from trainables.networks.backbones import BACKBONES, backbone
from trainables.networks.downloads import OnDownload, check_download, download, find_downloaded
from trainables.networks.file_hash import sha256_of
from trainables.networks.hub_weights import check_hub_weights, fetch_from_hub, find_in_hub_cache, hub_provenance
from trainables.networks.packaged_weights import find_packaged, packaged_file

if TYPE_CHECKING:
    from torch import Tensor

    from trainables.networks.bodies import Body

KINDS = ("imagenet", "none")
SUFFIXES = (".safetensors", ".pth", ".pt", ".ckpt", ".bin", ".pth.tar")
FILES = f"{', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}"


@dataclass(frozen=True)
class Origin:
    """How to get the ImageNet weights of a backbone from who publishes them."""

    find: Callable[[Backbone], Path | None]  # gives the file if it is on this machine; never uses the network
    check: Callable[[Backbone], object]  # raises what `fetch` would raise; downloads nothing
    fetch: Callable[[Backbone, OnDownload | None], Path]  # gives the file, downloads it first if need be


ORIGINS: Mapping[str, Origin] = {
    "torchvision": Origin(find_downloaded, check_download, download),
    "package": Origin(find_packaged, packaged_file, lambda row, on_download: packaged_file(row)),
    "hub": Origin(find_in_hub_cache, check_hub_weights, fetch_from_hub),
}
"""``Backbone.origin`` → how to get its ImageNet weights."""


def backbones_at_hand(names: Iterable[str] = tuple(BACKBONES)) -> tuple[str, ...]:
    """Return those of the named backbones whose ImageNet weights are on this machine. Never uses the network.

    Raises ``ConfigError`` for an unknown name.
    """
    return tuple(name for name in names if weights_at_hand(name, "imagenet"))


def weights_at_hand(name: str, weights: str) -> bool:
    """Return whether `weights` of a backbone `name` are on this machine. Never uses the network, and does not read the file.

    Raises ``ConfigError`` for an unknown backbone or kind of weights.
    """
    row = backbone(name)
    return ORIGINS[row.origin].find(row) is not None if weights == "imagenet" else weights == "none" or _file(weights).is_file()


def check_weights(name: str, weights: str) -> None:
    """Check before a search that ``load_weights`` will work for a backbone `name`; download nothing.

    Raises ``ConfigError`` for an unknown backbone or kind of weights. Raises ``WeightsError`` for a file that is missing, damaged or of
    another network, and for ImageNet weights whose file is damaged, or that are neither on this machine nor reachable: the message names
    the file, its place and the command that brings it.
    """
    row = backbone(name)
    if weights == "imagenet":
        ORIGINS[row.origin].check(row)
    elif weights != "none":
        from trainables.networks.bodies import build_empty_body

        _tensors(_existing(_file(weights)), build_empty_body(name), row)


def load_weights(body: "Body", name: str, weights: str, *, on_download: OnDownload | None = None) -> str:
    """Copy weights into the body of a backbone `name`, in place, and return where they come from.

    The result is a text such as ``none``, ``imagenet resnet18-f37072fd`` or ``file net.pth 1a2b3c4d``, with the first digits of the file's
    SHA-256. Raises as `check_weights` and `fetch_weights` do, and leaves the body unchanged then.
    """
    row = backbone(name)
    if weights == "none":
        return "none"
    path = fetch_weights(name, on_download) if weights == "imagenet" else _existing(_file(weights))
    tensors = _tensors(path, body, row, published=weights == "imagenet")

    import torch

    own = body.trunk.state_dict()
    with torch.no_grad():
        for key, tensor in tensors.items():
            own[key].copy_(tensor)
    if weights != "imagenet":
        return f"file {path.name} {sha256_of(path)[:8]}"
    return f"imagenet {hub_provenance(row, path) if row.origin == 'hub' else path.stem}"


def fetch_weights(name: str, on_download: OnDownload | None = None) -> Path:
    """Return the path of the file with a backbone's ImageNet weights; download it first if it is not on this machine.

    Raises ``ConfigError`` for an unknown backbone, and as `check_weights` and `download` do.
    """
    row = backbone(name)
    return ORIGINS[row.origin].fetch(row, on_download)


def _tensors(path: Path, body: "Body", row: Backbone, *, published: bool = False) -> Mapping[str, "Tensor"]:
    """Return the tensors of a file by the body's keys, `published` ones of timm as timm loads them."""
    from trainables.networks.state_dicts import matching_tensors, read_tensors
    from trainables.networks.timm_models import pretrained_tensors

    read = pretrained_tensors(row, path, body.image_size) if published and row.origin == "hub" else read_tensors(path)
    return matching_tensors(read, body, row.name, path)


def _file(weights: str) -> Path:
    """Return the path of the file that `weights` names; it may not exist. Raises ``ConfigError`` for an unknown kind of weights."""
    if not weights.endswith(SUFFIXES):
        raise ConfigError(f"unknown weights {weights!r}; write {' or '.join(KINDS)}, or name a {FILES} file")
    return Path(weights)


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise WeightsError(f"no weights file '{path}'; name an existing {FILES} file, or one of {', '.join(KINDS)}")
    return path
