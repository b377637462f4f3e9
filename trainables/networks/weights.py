"""Pretrained weights for a body: torchvision's ImageNet weights, the built-in ones, a file, or none. Light to import."""

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.error import URLError
from urllib.parse import urlsplit
from urllib.request import urlopen

from filelock import FileLock

from trainables.errors import ConfigError, ResourceError, WeightsError, did_you_mean
from trainables.networks.backbones import backbone
from trainables.storage.atomic_write import NO_SPACE, atomic_write, remove_temporaries

if TYPE_CHECKING:
    from trainables.networks.bodies import Body

OnDownload = Callable[[int, int], None]
"""Called with the bytes downloaded and the bytes in all, 0 if unknown."""

BUILTIN = ("mobilenet_v3_small",)
BUILTIN_FOLDER = Path(__file__).parents[1] / "pretraining"
KINDS = ("imagenet", "builtin", "none")
SUFFIXES = (".safetensors", ".pth")
TIMEOUT = 30  # seconds that the server may take to answer
CHUNK = 1 << 20  # bytes


def builtin_backbones() -> tuple[str, ...]:
    """Return the names of the backbones that have built-in weights."""
    return BUILTIN


def check_weights(name: str, weights: str) -> None:
    """Check before a search that ``load_weights`` will work for a backbone `name`; download nothing.

    Raises ``ConfigError`` for an unknown backbone or kind of weights, or a backbone without built-in weights. Raises ``WeightsError`` for a
    file that is missing, damaged or of another network, and for ImageNet weights whose cached file is damaged, or that are neither cached
    nor reachable.
    """
    kind = _kind(name, weights)
    if kind == "file":
        from trainables.networks.bodies import build_empty_body
        from trainables.networks.state_dicts import matching_tensors, read_tensors

        matching_tensors(read_tensors(Path(weights)), build_empty_body(name), name, Path(weights))
    elif kind == "builtin":
        _builtin(name)
    elif kind == "imagenet":
        path = _cached_path(name)
        if path.exists():
            _check_hash(path)
        else:
            with _connection(name, path):
                pass


def load_weights(body: "Body", name: str, weights: str, *, on_download: OnDownload | None = None) -> str:
    """Copy weights into the body of a backbone `name`, in place, and return where they come from.

    The result is a text such as ``none``, ``imagenet resnet18-f37072fd`` or ``file net.pth 1a2b3c4d``, with the first digits of the file's
    SHA-256. Raises as `check_weights` and `fetch_weights` do, and leaves the body unchanged then.
    """
    match _kind(name, weights):
        case "none":
            return "none"
        case "imagenet":
            path = fetch_weights(name, on_download)
            provenance = f"imagenet {path.stem}"
        case "builtin":
            path = _builtin(name)
            provenance = f"builtin {_sha256(path)[:8]}"
        case _:
            path = Path(weights)
            provenance = f"file {path.name} {_sha256(path)[:8]}"

    import torch

    from trainables.networks.state_dicts import matching_tensors, read_tensors

    tensors = matching_tensors(read_tensors(path), body, name, path)
    own = body.trunk.state_dict()
    with torch.no_grad():
        for key, tensor in tensors.items():
            own[key].copy_(tensor)
    return provenance


def fetch_weights(name: str, on_download: OnDownload | None = None) -> Path:
    """Return the path of torchvision's ImageNet weights in ``torch.hub``'s folder; download the file first if it is absent.

    Only one process of a node downloads it. The environment variable ``INJERTO_WEIGHTS_URL`` names a mirror to use instead of
    torchvision's server. Raises ``WeightsError`` if the server cannot be reached, the folder cannot be written or the file has the wrong
    hash, ``ResourceError`` if the disk is full.
    """
    path = _cached_path(name)
    if not path.exists():
        with _download_lock(path):
            if not path.exists():
                _download(name, path, on_download)
    _check_hash(path)
    return path


def _kind(name: str, weights: str) -> str:
    backbone(name)
    if weights == "builtin" and name not in BUILTIN:
        raise ConfigError(f"{name} has no built-in weights; those that do: {', '.join(BUILTIN)}; or choose weights imagenet or none")
    if weights in KINDS:
        return weights
    if not weights.endswith(SUFFIXES):
        raise ConfigError(f"unknown weights {weights!r}{did_you_mean(weights, KINDS)}; or name a {' or '.join(SUFFIXES)} file")
    if not Path(weights).is_file():
        raise WeightsError(f"no weights file {weights!r}; name an existing {' or '.join(SUFFIXES)} file, or one of {', '.join(KINDS)}")
    return "file"


def _builtin(name: str) -> Path:
    path = BUILTIN_FOLDER / f"{name}.safetensors"
    if not path.is_file():
        raise WeightsError(f"the built-in weights of {name} are not at {path}; install injerto again")
    return path


def _cached_path(name: str) -> Path:
    from torch import hub

    return Path(hub.get_dir()) / "checkpoints" / backbone(name).weights_file


def _url(name: str) -> str:
    mirror = os.environ.get("INJERTO_WEIGHTS_URL")
    if mirror:
        return f"{mirror.rstrip('/')}/{backbone(name).weights_file}"
    import torchvision

    return str(torchvision.models.get_model_weights(name).DEFAULT.url)


@contextmanager
def _download_lock(path: Path) -> Iterator[None]:
    """Let one process of this node at a time run the block. Raises ``WeightsError`` if the folder of `path` cannot be written."""
    lock = FileLock(path.with_name(path.name + ".lock"))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except OSError as error:
        raise WeightsError(f"cannot write to {path.parent} ({error.strerror or error}); set TORCH_HOME to a writable folder") from None
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _connection(name: str, path: Path) -> Iterator[HTTPResponse]:
    """Give the server's response with the ImageNet weights of a backbone `name`, which are to be saved at `path`; close it after the block.

    If the connection or the block fails, raises ``ResourceError`` for a full disk and ``WeightsError`` for any other network or disk error.
    """
    url = _url(name)
    try:
        with urlopen(url, timeout=TIMEOUT) as response:
            yield response
    except (OSError, HTTPException, ValueError) as error:
        if isinstance(error, OSError) and error.errno in NO_SPACE:
            raise ResourceError(f"no space left in {path.parent} for {path.name}; free some or set TORCH_HOME to another disk") from None
        reason, host = error.reason if isinstance(error, URLError) else error, urlsplit(url).hostname or "the server"
        raise WeightsError(
            f"the ImageNet weights of {name} are not on this machine and cannot be fetched from {host} ({reason}): "
            f"put the file {path.name} into the folder {path.parent}, or choose other weights"
        ) from None


def _download(name: str, path: Path, on_download: OnDownload | None) -> None:
    remove_temporaries(path)
    with _connection(name, path) as response, atomic_write(path) as file:
        total, done, digest = int(response.headers.get("Content-Length") or 0), 0, hashlib.sha256()
        while chunk := response.read(CHUNK):
            file.write(chunk)
            digest.update(chunk)
            done += len(chunk)
            if on_download:
                on_download(done, total)
        if not _is_named_hash(digest.hexdigest(), path):
            raise WeightsError(f"the downloaded {path.name} has another SHA-256 than its name says, after {done:,} bytes; try again")


def _check_hash(path: Path) -> None:
    if not _is_named_hash(_sha256(path), path):
        raise WeightsError(f"{path} is damaged: its SHA-256 is not the one in its name; delete that file and start again")


def _is_named_hash(sha256: str, path: Path) -> bool:
    """Return whether a SHA-256 begins with the digits in the file's name after the last hyphen, as in ``resnet18-f37072fd.pth``."""
    return sha256.startswith(path.stem.rpartition("-")[2])


def _sha256(path: Path) -> str:
    status = path.stat()
    return _sha256_of_version(path, status.st_ino, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=64)
def _sha256_of_version(path: Path, inode: int, size: int, changed: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
