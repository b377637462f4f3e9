"""What a node finds out about itself before trials start there. Imports nothing heavy: an image without torch must be able to say so."""

import shutil
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from search.nodes.versions import ABSENT, versions
from trainables.errors import DataError, InjertoError, ResourceError, StorageError

GPU_QUERY = ["nvidia-smi", "--query-gpu=name,memory.total,memory.free", "--format=csv,noheader,nounits"]
GPU_SECONDS = 20


@dataclass(frozen=True)
class Wanted:
    """What a search asks of every node."""

    versions: Mapping[str, str]  # the driver's
    bytes: int  # of decoded images, on the node's own disk
    weights: tuple[tuple[str, str], ...]  # backbone, weights
    manifest: str | None  # location of the data's manifest
    root: str | None  # location of states and artifacts
    probe: str  # key there under which the driver has written itself


@dataclass(frozen=True)
class Finding:
    """What a check has found: a few words, and whether a trial can run."""

    well: bool
    words: str


@dataclass(frozen=True)
class Report:
    """What a node says of itself."""

    at: float  # its clock, seconds since the epoch
    findings: Mapping[str, Finding]


def inspect(wanted: Wanted, gpus: float) -> Report:
    """Make every check on this node; none keeps another from being made."""
    at = time.time()
    return Report(at, {name: _finding(check, wanted, gpus) for name, check in CHECKS.items()})


def _finding(check: Callable[[Wanted, float], str], wanted: Wanted, gpus: float) -> Finding:
    try:
        return Finding(True, check(wanted, gpus))
    except InjertoError as error:
        return Finding(False, str(error))
    except Exception as error:
        return Finding(False, f"{type(error).__name__}: {error}")


def _versions(wanted: Wanted, gpus: float) -> str:
    here = versions()
    if differs := [f"{name} {here[name]} (driver: {wanted.versions[name]})" for name in here if here[name] != wanted.versions[name]]:
        absent = [name for name in here if here[name] == ABSENT]
        what = f"without {', '.join(absent)}: " if absent else ""
        raise ResourceError(f"{what}{'; '.join(differs)}; give every node the same image")
    return f"torch {here['torch']}"


def _gpus(wanted: Wanted, gpus: float) -> str:
    if not gpus:
        return "none"
    import torch

    if not torch.cuda.is_available():
        raise ResourceError(
            f"Ray counts {gpus:g} GPUs here but torch {torch.__version__} sees none; mend the driver, or install torch for CUDA"
        )
    try:
        done = subprocess.run(GPU_QUERY, capture_output=True, text=True, timeout=GPU_SECONDS, check=True)
        cards = [[part.strip() for part in line.split(",")] for line in done.stdout.splitlines()]
        return ", ".join(f"{name} {float(free) / 1024:.0f} of {float(total) / 1024:.0f} GB free" for name, total, free in cards)
    except (OSError, subprocess.SubprocessError, ValueError):
        return f"{torch.cuda.device_count()} × {torch.cuda.get_device_name()}"


def _disk(wanted: Wanted, gpus: float) -> str:
    from trainables.storage.cache import cache_root, show_bytes

    cache_root().mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(cache_root()).free
    if free < wanted.bytes:
        raise ResourceError(
            f"{show_bytes(free)} free in {cache_root()}, and the images need {show_bytes(wanted.bytes)}; "
            "make room, or set INJERTO_CACHE there to a folder on a larger disk"
        )
    return f"{show_bytes(free)} free"


def _storage(wanted: Wanted, gpus: float) -> str:
    from trainables.storage.locations import Root, is_url, probe

    if wanted.root is None:
        return "-"
    root = Root(wanted.root)
    if not root.exists(wanted.probe):
        raise StorageError(
            f"{root} is not the driver's: what it wrote there is not here; name a folder that every node sees with --output or --root, "
            "or a bucket with --root s3://..."
        )
    probe(wanted.root)
    return "bucket" if is_url(wanted.root) else "shared folder"


def _data(wanted: Wanted, gpus: float) -> str:
    if wanted.manifest is None:
        return "-"
    from trainables.data.manifest import read_manifest, sample_check

    manifest = read_manifest(wanted.manifest)
    try:
        sample_check(manifest)
    except DataError as error:
        what_to_do = "if it does not see the images at all, name a folder or a bucket that every node sees, or raise resources.ship_up_to"
        raise DataError(f"{error}; {what_to_do}") from None
    return "reads alike" if manifest.pack is None else "comes along"


def _weights(wanted: Wanted, gpus: float) -> str:
    from trainables.networks.weights import check_weights, fetch_weights

    for backbone, weights in wanted.weights:
        if weights == "imagenet":
            fetch_weights(backbone)
        elif weights != "none":
            check_weights(backbone, weights)
    return ", ".join(sorted({weights for _, weights in wanted.weights})) or "-"


CHECKS: Mapping[str, Callable[[Wanted, float], str]] = {
    "versions": _versions,
    "GPUs": _gpus,
    "disk": _disk,
    "storage": _storage,
    "data": _data,
    "weights": _weights,
}
"""What is looked at on a node → what looks and says what it has found, or raises what is wrong and what to do."""
