"""Weights of timm's networks from the cache of the Hugging Face hub, or from the hub. Light to import.

``HF_HOME`` and ``HF_HUB_CACHE`` name the cache, ``HF_ENDPOINT`` a mirror; ``HF_HUB_OFFLINE=1`` forbids the network.
"""

import re
from pathlib import Path
from typing import Any

from trainables.errors import ResourceError, WeightsError
from trainables.networks.backbone_row import Backbone
from trainables.networks.downloads import OnDownload
from trainables.networks.file_hash import sha256_of
from trainables.storage.atomic_write import NO_SPACE

SHA256 = re.compile(r"[0-9a-f]{64}")


def find_in_hub_cache(row: Backbone) -> Path | None:
    """Return the path of the weights of a network of timm in the hub's cache; None if the file is not there. Never uses the network."""
    from huggingface_hub import try_to_load_from_cache

    if not row.location:
        return None
    repository, revision = _repository(row)
    path = try_to_load_from_cache(repository, row.weights_file, revision=revision)
    return Path(path) if isinstance(path, str) else None


def check_hub_weights(row: Backbone) -> None:
    """Raise ``WeightsError`` if a network's weights are damaged, or are neither in the cache nor reachable. Downloads nothing."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    path = find_in_hub_cache(row)
    if path:
        return _check_hash(path)
    repository, revision = _repository(row)
    try:
        get_hf_file_metadata(hf_hub_url(repository, row.weights_file, revision=revision))
    except Exception as error:  # those of the hub's client and of its HTTP library
        raise _unreachable(row, error) from None
    return None


def fetch_from_hub(row: Backbone, on_download: OnDownload | None = None) -> Path:
    """Return the path of the weights of a network of timm in the hub's cache; download the file first if it is absent.

    Raises ``WeightsError`` if the hub cannot be reached, the cache cannot be written or the file is damaged, ``ResourceError`` if the disk
    is full.
    """
    from huggingface_hub import hf_hub_download

    path = find_in_hub_cache(row)
    if path is None:
        repository, revision = _repository(row)
        try:
            path = Path(hf_hub_download(repository, row.weights_file, revision=revision, tqdm_class=_progress(on_download)))
        except Exception as error:  # as in `check_hub_weights`
            raise _unreachable(row, error) from None
    _check_hash(path)
    return path


def hub_provenance(row: Backbone, path: Path) -> str:
    """Return the repository and the first digits of the commit that a cached file is from, such as ``timm/resnet18.a1_in1k@491b427b``."""
    return f"{_repository(row)[0]}@{path.parent.name[:8]}"


def _repository(row: Backbone) -> tuple[str, str | None]:
    """Return the repository and the revision of a row. Raises ``WeightsError`` for a network without weights."""
    if not row.location:
        raise WeightsError(f"there are no weights for {row.name}: timm names no repository; choose another tag, or weights none")
    repository, _, revision = row.location.partition("@")
    return repository, revision or None


def _check_hash(path: Path) -> None:
    """The cache names the content of large files by its SHA-256."""
    content = path.resolve()
    if SHA256.fullmatch(content.name) and sha256_of(content) != content.name:
        raise WeightsError(f"{path} is damaged: its SHA-256 is not the one that the hub gave; delete the file {content} and start again")


def _unreachable(row: Backbone, error: Exception) -> Exception:
    from huggingface_hub import constants

    if isinstance(error, OSError) and error.errno in NO_SPACE:
        return ResourceError(f"no space left in {constants.HF_HUB_CACHE} for {row.weights_file}; free some or set HF_HOME to another disk")
    repository, revision = _repository(row)
    reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
    at = f" --revision {revision}" if revision else ""
    return WeightsError(
        f"the weights of {row.name} are not on this machine and cannot be fetched ({reason}): bring the file {row.weights_file} of the "
        f"repository {repository} into the cache {constants.HF_HUB_CACHE}, which `hf download {repository} {row.weights_file}{at}` does "
        "where the hub answers, or choose other weights"
    )


def _progress(on_download: OnDownload | None) -> Any:
    """Return a class of progress bars that shows nothing, and passes the bytes done and the bytes in all on."""
    from huggingface_hub.utils import tqdm  # type: ignore[attr-defined]

    class Progress(tqdm):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **{**options, "disable": True})  # type: ignore[no-untyped-call]
            self.done = int(options.get("initial") or 0)

        def update(self, n: float | None = 1) -> bool | None:
            self.done += int(n or 0)
            if on_download:
                on_download(self.done, int(self.total or 0))
            return None

    return Progress
