"""torchvision's ImageNet weights in the folder of ``torch.hub``, downloaded once per node. Light to import."""

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from urllib.error import URLError
from urllib.parse import urlsplit
from urllib.request import ProxyHandler, build_opener

from filelock import FileLock

from trainables.errors import ResourceError, WeightsError
from trainables.loopback import is_loopback
from trainables.networks.backbone_row import Backbone
from trainables.networks.file_hash import check_named_hash, is_named_hash
from trainables.storage.atomic_write import NO_SPACE, atomic_write, remove_temporaries

OnDownload = Callable[[int, int], None]
"""Called with the bytes downloaded and the bytes in all, 0 if unknown."""

TIMEOUT = 30  # seconds that the server may take to answer
CHUNK = 1 << 20  # bytes
REMEDY = "delete that file and start again"


def find_downloaded(row: Backbone) -> Path | None:
    """Return the path of a backbone's ImageNet weights in the folder of ``torch.hub``; None if the file is not there."""
    path = _path(row)
    return path if path.is_file() else None


def check_download(row: Backbone) -> None:
    """Raise ``WeightsError`` if a backbone's file of ImageNet weights is damaged, or is absent and cannot be reached. Downloads nothing."""
    path = _path(row)
    if path.exists():
        check_named_hash(path, REMEDY)
    else:
        with _connection(row, path):
            pass


def download(row: Backbone, on_download: OnDownload | None = None) -> Path:
    """Return the path of a backbone's ImageNet weights in the folder of ``torch.hub``; download the file first if it is absent.

    Only one process of a node downloads it. The environment variable ``INJERTO_WEIGHTS_URL`` names a mirror to use instead of
    torchvision's server. Raises ``WeightsError`` if the server cannot be reached, the folder cannot be written or the file has the wrong
    hash, ``ResourceError`` if the disk is full.
    """
    path = _path(row)
    if not path.exists():
        with _download_lock(path):
            if not path.exists():
                _download(row, path, on_download)
    check_named_hash(path, REMEDY)
    return path


def _path(row: Backbone) -> Path:
    from torch import hub

    return Path(hub.get_dir()) / "checkpoints" / row.weights_file


def _url(row: Backbone) -> str:
    mirror = os.environ.get("INJERTO_WEIGHTS_URL")
    if mirror:
        return f"{mirror.rstrip('/')}/{row.weights_file}"
    import torchvision

    return str(torchvision.models.get_model_weights(row.name).DEFAULT.url)


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
def _connection(row: Backbone, path: Path) -> Iterator[HTTPResponse]:
    """Give the server's response with the ImageNet weights of a backbone, which are to be saved at `path`; close it after the block.

    If the connection or the block fails, raises ``ResourceError`` for a full disk and ``WeightsError`` for any other network or disk error.
    """
    url = _url(row)
    try:
        direct = [ProxyHandler({})] if is_loopback(urlsplit(url).hostname or "") else []  # `no_proxy` cannot name all of 127.0.0.0/8
        with build_opener(*direct).open(url, timeout=TIMEOUT) as response:
            yield response
    except (OSError, HTTPException, ValueError) as error:
        if isinstance(error, OSError) and error.errno in NO_SPACE:
            raise ResourceError(f"no space left in {path.parent} for {path.name}; free some or set TORCH_HOME to another disk") from None
        reason, host = error.reason if isinstance(error, URLError) else error, urlsplit(url).hostname or "the server"
        raise WeightsError(
            f"the ImageNet weights of {row.name} are not on this machine and cannot be fetched from {host} ({reason}): "
            f"put the file {path.name} into the folder {path.parent}, which `curl -L --create-dirs -o {path} {url}` does "
            f"where {host} answers, or choose other weights"
        ) from None


def _download(row: Backbone, path: Path, on_download: OnDownload | None) -> None:
    remove_temporaries(path)
    with _connection(row, path) as response, atomic_write(path) as file:
        total, done, digest = int(response.headers.get("Content-Length") or 0), 0, hashlib.sha256()
        while chunk := response.read(CHUNK):
            file.write(chunk)
            digest.update(chunk)
            done += len(chunk)
            if on_download:
                on_download(done, total)
        if not is_named_hash(digest.hexdigest(), path):
            raise WeightsError(f"the downloaded {path.name} has another SHA-256 than its name says, after {done:,} bytes; try again")
