"""Preparing the nodes of a cluster for a search: write the data's manifest to shared storage, check every node, fill their image caches."""

import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from cluster.connect import connect
from cluster.on_each_node import run_on_each_node
from search.config import SearchConfig
from search.nodes.preflight import preflight
from search.nodes.resources import TrialResources, fit_to_cluster
from search.paths import resolve_paths
from search.plan import make_plan
from search.record.artifacts import study_root
from search.watcher import Watcher
from trainables.config import Aspect
from trainables.errors import InjertoError, ResourceError
from trainables.storage.locations import is_url, join
from trainables.storage.root import Root, discard

if TYPE_CHECKING:
    from search.plan import Plan

MANIFEST, PACK = "data.json.gz", "data.npy"
"""Keys under a study's root: the manifest of its data, and the images themselves where they are sent to the nodes."""
FILL_SECONDS = 24 * 3600.0


def prepare_nodes(plan: "Plan", resources: TrialResources, root: str, watcher: Watcher) -> "Plan":
    """Write the data's manifest under `root`, check every node and fill its image cache; return the plan with the manifest's location.

    The watcher gets the table of findings and the progress. Nodes that join later read the manifest too. Raises ``InjertoError``; then the
    manifest is deleted again.
    """
    manifest = join(root, MANIFEST)
    try:
        _prepare(plan, resources, root, manifest, watcher)
    except BaseException:
        for key in (MANIFEST, PACK):
            with suppress(InjertoError):
                discard(join(root, key))
        raise
    return replace(plan, manifest=manifest)


def _prepare(plan: "Plan", resources: TrialResources, root: str, manifest: str, watcher: Watcher) -> None:
    from trainables.data.manifest import write_manifest

    one_size = len(plan.image_sizes) == 1  # decoded images travel at one size only
    write_manifest(plan.dataset, manifest, pack_bytes=int(plan.config.resources.ship_up_to) if one_size else 0)
    preflight(plan, resources, root, manifest, watcher.say, partial(_on_progress, watcher, "checking nodes"))
    answers = run_on_each_node(
        fill_cache,
        manifest,
        plan.image_sizes,
        plan.dataset.aspect,
        plan.config.data.outside_paths,
        seconds=FILL_SECONDS,
        on_progress=partial(_on_progress, watcher, "nodes have the images"),
    )
    if failures := [f"  {answer.node.name}: {answer.error}" for answer in answers if answer.error]:
        raise ResourceError("\n".join((f"{len(failures)} of {len(answers)} nodes cannot get the images:", *failures)))


def fill_cache(manifest: str, image_sizes: tuple[int, ...], aspect: Aspect, outside_paths: bool) -> int:
    """Put the decoded images of the manifest at this location into this node's cache, unless they are there; return how many there are.

    They are decoded for each of the sizes in pixels. Raises as `prepare_from_manifest` does.
    """
    from trainables.data.manifest import prepare_from_manifest

    datasets = [prepare_from_manifest(manifest, size, aspect, outside_paths=outside_paths) for size in image_sizes]
    return len(datasets[0].images)


def check_nodes(config: SearchConfig, watcher: Watcher) -> None:
    """Check every node for a search without starting one: ``injerto doctor``. Raises ``InjertoError`` that names what fails."""
    config = resolve_paths(config)
    plan = make_plan(config, watcher.preparing)
    with connect(config.resources.address) as capacity, _temporary_root(config) as root:
        resources = fit_to_cluster(capacity, config)
        prepare_nodes(plan, resources, root, watcher)
        watcher.say(f"every node can run trials, {resources.slots} at a time in all")


@contextmanager
def _temporary_root(config: SearchConfig) -> Iterator[str]:
    """Yield the location of a new root beside those of this configuration's studies; delete what was written there after the block."""
    name = f"doctor-{uuid.uuid4().hex[:8]}"
    root = study_root(config.root, name, config.output / name)
    created = next((path for path in reversed(Path(root).parents) if not path.exists()), Path(root)) if not is_url(root) else None
    try:
        yield root
    finally:
        if created is not None:
            shutil.rmtree(created, ignore_errors=True)
        else:
            for key in Root(root).names():
                discard(join(root, key))


def _on_progress(watcher: Watcher, what: str, done: int, total: int) -> None:
    watcher.preparing(done, total, what)
