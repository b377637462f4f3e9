"""The checks that a node makes on itself before trials start there.

Imports neither torch nor Ray at the top, so that a node without torch can report that it is missing.
"""

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
class Requirements:
    """What a search requires of every node."""

    versions: Mapping[str, str]  # the driver's
    bytes: int  # of decoded images, on the node's local disk
    weights: tuple[tuple[str, str], ...]  # backbone, weights
    manifest: str | None  # location of the data's manifest
    root: str | None  # location of checkpoints and artifacts
    probe: str  # key of a file that the driver has written under root


@dataclass(frozen=True)
class Finding:
    """The result of one check: whether a trial can run, and a short text (what was found, or what is wrong and what to do)."""

    ok: bool
    text: str


@dataclass(frozen=True)
class NodeReport:
    """What a node found about itself: the name of each check → its finding. `at` dates from before the checks."""

    at: float  # the node's clock, seconds since the epoch
    findings: Mapping[str, Finding]


def inspect_node(required: Requirements, gpus: float) -> NodeReport:
    """Run every check of `CHECKS` on this node, also after one that failed, and return the findings.

    `gpus` is the number that a trial takes. A failed check does not raise: its finding says so.
    """
    at = time.time()
    return NodeReport(at, {name: _run_check(check, required, gpus) for name, check in CHECKS.items()})


def _run_check(check: Callable[[Requirements, float], str], required: Requirements, gpus: float) -> Finding:
    try:
        return Finding(True, check(required, gpus))
    except InjertoError as error:
        return Finding(False, str(error))
    except Exception as error:
        return Finding(False, f"{type(error).__name__}: {error}")


def _versions(required: Requirements, gpus: float) -> str:
    here = versions()
    if differs := [f"{name} {here[name]} (driver: {required.versions[name]})" for name in here if here[name] != required.versions[name]]:
        absent = [name for name in here if here[name] == ABSENT]
        missing = f"without {', '.join(absent)}: " if absent else ""
        raise ResourceError(f"{missing}{'; '.join(differs)}; give every node the same image")
    return f"torch {here['torch']}"


def _gpus(required: Requirements, gpus: float) -> str:
    if not gpus:
        return "none"
    import torch

    if not torch.cuda.is_available():
        raise ResourceError(
            f"a trial takes {gpus:g} GPUs but torch {torch.__version__} finds none here; repair the GPU driver, or install torch for CUDA"
        )
    try:
        done = subprocess.run(GPU_QUERY, capture_output=True, text=True, timeout=GPU_SECONDS, check=True)
        cards = [[part.strip() for part in line.split(",")] for line in done.stdout.splitlines()]
        return ", ".join(f"{name} {float(free) / 1024:.0f} of {float(total) / 1024:.0f} GB free" for name, total, free in cards)
    except (OSError, subprocess.SubprocessError, ValueError):
        return f"{torch.cuda.device_count()} × {torch.cuda.get_device_name()}"


def _disk(required: Requirements, gpus: float) -> str:
    from trainables.storage.byte_sizes import show_bytes
    from trainables.storage.cache import cache_root

    cache_root().mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(cache_root()).free
    if free < required.bytes:
        raise ResourceError(
            f"{show_bytes(free)} free in {cache_root()}, but the images need {show_bytes(required.bytes)}; "
            "free some space, or set INJERTO_CACHE on that node to a folder on a larger disk"
        )
    return f"{show_bytes(free)} free"


def _storage(required: Requirements, gpus: float) -> str:
    from trainables.storage.locations import is_url
    from trainables.storage.root import Root, probe

    if required.root is None:
        return "-"
    root = Root(required.root)
    if not root.exists(required.probe):
        raise StorageError(
            f"{root} on this node is not the driver's: a file that the driver wrote there is missing here; "
            "name a folder that every node shares with --output or --root, or a bucket with --root s3://..."
        )
    probe(required.root)
    return "bucket" if is_url(required.root) else "shared folder"


def _data(required: Requirements, gpus: float) -> str:
    if required.manifest is None:
        return "-"
    from trainables.data.manifest import read_manifest, sample_check

    manifest = read_manifest(required.manifest)
    try:
        sample_check(manifest)
    except DataError as error:
        remedy = "if the node has no access to the images, name a folder or a bucket that every node shares, or raise resources.ship_up_to"
        raise DataError(f"{error}; {remedy}") from None
    return "same images" if manifest.pack is None else "sent by the driver"


def _weights(required: Requirements, gpus: float) -> str:
    from trainables.networks.weights import check_weights, fetch_weights

    for backbone, weights in required.weights:
        if weights == "imagenet":
            fetch_weights(backbone)
        elif weights != "none":
            check_weights(backbone, weights)
    return ", ".join(sorted({weights for _, weights in required.weights})) or "-"


CHECKS: Mapping[str, Callable[[Requirements, float], str]] = {
    "versions": _versions,
    "GPUs": _gpus,
    "disk": _disk,
    "storage": _storage,
    "data": _data,
    "weights": _weights,
}
"""Name of a check → its function, which returns what it found or raises an error that says what is wrong and what to do."""
