"""A cluster made ready for a search: what its data are, written where every node reads it, every node looked at, their caches filled."""

import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from cluster.connect import connect
from cluster.on_each_node import on_each
from search.config import SearchConfig
from search.nodes.preflight import preflight
from search.nodes.resources import TrialResources, fit
from search.plan import absolute, make_plan
from search.record.store import study_root
from search.watcher import Watcher
from trainables.config import Aspect
from trainables.errors import InjertoError, ResourceError
from trainables.storage.locations import Root, discard, is_url, join

if TYPE_CHECKING:
    from search.plan import Plan

MANIFEST, PACK = "data.json.gz", "data.npy"
FILL_SECONDS = 24 * 3600.0


def prepare_nodes(plan: "Plan", resources: TrialResources, root: str, watcher: Watcher) -> "Plan":
    """Make every node ready; return the plan with its manifest, for nodes to come. Raises ``InjertoError``; then nothing is left."""
    place = join(root, MANIFEST)
    try:
        _provide(plan, resources, root, place, watcher)
    except BaseException:
        for key in (MANIFEST, PACK):
            with suppress(InjertoError):
                discard(join(root, key))
        raise
    return replace(plan, manifest=place)


def _provide(plan: "Plan", resources: TrialResources, root: str, place: str, watcher: Watcher) -> None:
    from trainables.data.manifest import write_manifest

    write_manifest(plan.dataset, place, pack_bytes=int(plan.config.resources.ship_up_to))
    preflight(plan, resources, root, place, watcher.say, partial(_told, watcher, "looking at nodes"))
    answers = on_each(
        fill,
        place,
        plan.dataset.image_size,
        plan.dataset.aspect,
        seconds=FILL_SECONDS,
        told=partial(_told, watcher, "nodes have the images"),
    )
    if failed := [f"  {answer.node.name}: {answer.error}" for answer in answers if answer.error]:
        raise ResourceError("\n".join((f"{len(failed)} of {len(answers)} nodes cannot have the images:", *failed)))


def fill(place: str, image_size: int, aspect: Aspect) -> int:
    """Have the images of a manifest in this node's cache; return how many."""
    from trainables.data.manifest import prepare_from

    return len(prepare_from(place, image_size, aspect).images)


def look(config: SearchConfig, watcher: Watcher) -> None:
    """Look at every node for a search, without one: ``injerto doctor``. Raises ``InjertoError`` that names what fails."""
    config = absolute(config)
    plan = make_plan(config, watcher.preparing)
    with connect(config.resources.address) as capacity, _passing(config) as root:
        resources = fit(capacity, config)
        prepare_nodes(plan, resources, root, watcher)
        watcher.say(f"every node can run trials, {resources.slots} at a time in all")


@contextmanager
def _passing(config: SearchConfig) -> Iterator[str]:
    """Give a place where a study of this configuration would have its own, and remove it."""
    name = f"doctor-{uuid.uuid4().hex[:8]}"
    root = study_root(config.root, name, config.output / name)
    made = next((path for path in reversed(Path(root).parents) if not path.exists()), Path(root)) if not is_url(root) else None
    try:
        yield root
    finally:
        if made is not None:
            shutil.rmtree(made, ignore_errors=True)
        else:
            for key in Root(root).names():
                discard(join(root, key))


def _told(watcher: Watcher, what: str, done: int, total: int) -> None:
    watcher.preparing(done, total, what)
