"""Pretrained weights for a body: torchvision's ImageNet weights, the built-in ones, a file, or none; light to import."""

import errno
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

if TYPE_CHECKING:
    from trainables.networks.bodies import Body

Progress = Callable[[int, int], None]  # bytes that came, bytes in all (0: unknown)

BUILTIN = ("mobilenet_v3_small",)
BUILTIN_FOLDER = Path(__file__).parents[1] / "pretraining"
KINDS = ("imagenet", "builtin", "none")
SUFFIXES = (".safetensors", ".pth")
TIMEOUT = 30  # seconds without an answer
CHUNK = 1 << 20  # bytes


def builtin_backbones() -> tuple[str, ...]:
    """Return the backbones that have built-in weights."""
    return BUILTIN


def check_weights(name: str, weights: str) -> None:
    """Find out, before a search, whether ``load_weights`` would work.

    Raises ``ConfigError`` for an unknown kind or a backbone without built-in weights, ``WeightsError`` for a file that is missing, damaged
    or of another network and for ImageNet weights that are neither cached nor reachable.
    """
    kind = _kind(name, weights)
    if kind == "file":
        from trainables.networks.bodies import build_empty_body
        from trainables.networks.state_dicts import fit, read_tensors

        fit(read_tensors(Path(weights)), build_empty_body(name), name, Path(weights))
    elif kind == "builtin":
        _builtin(name)
    elif kind == "imagenet":
        path = _cached(name)
        if path.exists():
            _check_hash(path)
        else:
            with _connection(name, path):
                pass


def load_weights(body: "Body", name: str, weights: str, *, progress: Progress | None = None) -> str:
    """Copy weights into a body and return where they come from, such as ``imagenet resnet18-f37072fd``.

    Raises what ``check_weights`` raises; the body is then as it was.
    """
    match _kind(name, weights):
        case "none":
            return "none"
        case "imagenet":
            path = fetch_weights(name, progress)
            provenance = f"imagenet {path.stem}"
        case "builtin":
            path = _builtin(name)
            provenance = f"builtin {_sha256(path)[:8]}"
        case _:
            path = Path(weights)
            provenance = f"file {path.name} {_sha256(path)[:8]}"

    import torch

    from trainables.networks.state_dicts import fit, read_tensors

    tensors = fit(read_tensors(path), body, name, path)
    own = body.trunk.state_dict()
    with torch.no_grad():
        for key, tensor in tensors.items():
            own[key].copy_(tensor)
    return provenance


def fetch_weights(name: str, progress: Progress | None = None) -> Path:
    """Return torchvision's ImageNet weights in ``torch.hub``'s folder, downloaded by one process a node if they are not there yet.

    The environment variable ``INJERTO_WEIGHTS_URL`` names a mirror to use in place of torchvision's own address.
    Raises ``WeightsError`` where there is no network or a wrong hash, ``ResourceError`` where the disk is full.
    """
    path = _cached(name)
    if not path.exists():
        with _alone(path):
            if not path.exists():
                _download(name, path, progress)
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


def _cached(name: str) -> Path:
    from torch import hub

    return Path(hub.get_dir()) / "checkpoints" / backbone(name).weights_file


def _address(name: str) -> str:
    mirror = os.environ.get("INJERTO_WEIGHTS_URL")
    if mirror:
        return f"{mirror.rstrip('/')}/{backbone(name).weights_file}"
    import torchvision

    return str(torchvision.models.get_model_weights(name).DEFAULT.url)


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    lock = FileLock(path.with_name(path.name + ".lock"))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except OSError as error:
        raise WeightsError(f"cannot write to {path.parent} ({error.strerror or error}); set TORCH_HOME to a folder of yours") from None
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _connection(name: str, path: Path) -> Iterator[HTTPResponse]:
    url = _address(name)
    try:
        with urlopen(url, timeout=TIMEOUT) as response:
            yield response
    except (OSError, HTTPException, ValueError) as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise ResourceError(f"no space left in {path.parent} for {path.name}; free some or set TORCH_HOME to another disk") from None
        reason, host = error.reason if isinstance(error, URLError) else error, urlsplit(url).hostname or "there"
        raise WeightsError(
            f"the ImageNet weights of {name} are not on this machine and cannot be fetched from {host} ({reason}): "
            f"put the file {path.name} into the folder {path.parent}, or choose other weights"
        ) from None


def _download(name: str, path: Path, progress: Progress | None) -> None:
    partial = path.with_name(path.name + ".partial")
    try:
        with _connection(name, path) as response, partial.open("wb") as file:
            total, done = int(response.headers.get("Content-Length") or 0), 0
            while chunk := response.read(CHUNK):
                file.write(chunk)
                done += len(chunk)
                if progress:
                    progress(done, total)
        if not _hash_fits(partial, path.name):
            raise WeightsError(f"what came for {path.name} has another SHA-256 than its name says, after {done:,} bytes; try again")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _check_hash(path: Path) -> None:
    if not _hash_fits(path, path.name):
        raise WeightsError(f"{path} is damaged: its SHA-256 is not the one in its name; delete that file and start again")


def _hash_fits(path: Path, name: str) -> bool:
    return _sha256(path).startswith(name.removesuffix(".pth").rpartition("-")[2])


def _sha256(path: Path) -> str:
    status = path.stat()
    return _sha256_of_version(path, status.st_ino, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=64)
def _sha256_of_version(path: Path, inode: int, size: int, changed: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
