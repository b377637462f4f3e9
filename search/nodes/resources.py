"""What each trial gets: its part of the cluster, and its assignment."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from cluster.capacity import Bundle, Capacity
from search.config import Resources, SearchConfig
from search.record.store import trial_folder
from trainables.config import TrialConfig
from trainables.errors import ConfigError, ResourceError

if TYPE_CHECKING:
    from search.plan import Plan

SOME_OF_IT = 0.001
"""What Ray asks of a node's ``accelerator_type:…``, of which each has 1, for a worker that must lie there."""


@dataclass(frozen=True)
class TrialResources:
    """One trial's part of the cluster: `replicas` bundles, each on one node, and how many trials run at once."""

    bundle: Bundle
    replicas: int = 1
    slots: int = 1
    most: int | None = None
    grows: bool = False

    @property
    def cpus(self) -> int:
        """Processor threads of a bundle."""
        return int(self.bundle["CPU"])

    @property
    def gpus(self) -> float:
        """GPUs of the whole trial."""
        return self.bundle.get("GPU", 0.0) * self.replicas

    def fits(self, capacity: Capacity) -> int:
        """Return how many trials may run at once on a cluster that has grown or shrunk; never none, as nodes may come again.

        One more than fits where nodes come on demand: a trial that waits is the demand.
        """
        slots = capacity.slots(self.bundle, self.replicas) + self.grows
        return max(1, min(slots, self.most or slots))

    def request(self) -> Any:
        """Return what Ray Tune asks of the cluster for a trial: its bundles, near each other where they can be."""
        from ray import tune

        return tune.PlacementGroupFactory([dict(self.bundle)] * self.replicas)

    def options(self) -> dict[str, Any]:
        """Return what ``ray.remote`` asks of the cluster for one bundle's worth of work."""
        others = {name: amount for name, amount in self.bundle.items() if name not in ("CPU", "GPU")}
        return {"num_cpus": self.cpus, "num_gpus": self.bundle.get("GPU", 0.0), "resources": others}


def fit(capacity: Capacity, config: SearchConfig) -> TrialResources:
    """Return each trial's share of the cluster.

    Raises ``ResourceError`` if not one trial fits, unless `resources.may_grow` says that the cluster adds nodes on demand.
    """
    wanted = config.resources
    gpus = wanted.gpus_per_trial if wanted.gpus_per_trial is not None else min(1.0, capacity.gpus)
    if config.budget.gpu_hours is not None and not gpus:
        raise ConfigError("budget.gpu_hours is a budget of GPUs, but trials here have none; set budget.time instead")
    replicas = max(1, int(gpus))
    bundle = {"CPU": float(wanted.cpus_per_trial or _even(capacity, gpus / replicas))}
    if gpus:
        bundle["GPU"] = gpus / replicas
    if wanted.accelerator_type is not None:
        bundle[f"accelerator_type:{wanted.accelerator_type}"] = SOME_OF_IT
    resources = TrialResources(bundle | wanted.custom, replicas, most=wanted.max_concurrent_trials, grows=wanted.may_grow)
    if not capacity.slots(resources.bundle, replicas) and not wanted.may_grow:
        raise ResourceError(_too_much(capacity, resources, wanted))
    return replace(resources, slots=resources.fits(capacity))


def _even(capacity: Capacity, gpus: float) -> int:
    """Return a trial's even part of the processors of the nodes that have GPUs; 1 without."""
    parts = [node.get("CPU", 0.0) * gpus / node["GPU"] for node in capacity.nodes if gpus and node.get("GPU")]
    return max(1, int(min(parts, default=1.0)))


def _too_much(capacity: Capacity, resources: TrialResources, wanted: Resources) -> str:
    why = capacity.lacking(resources.bundle)
    if not why:
        there = capacity.slots(resources.bundle)
        why = f"it is {resources.replicas} bundles, and there is room for {there}"
    count = len(capacity.nodes)
    held = f"{count} node{'s' if count != 1 else ''}, {capacity.cpus:g} processors and {capacity.gpus:g} GPUs"
    return (
        f"a trial needs {resources.cpus * resources.replicas} processors and {resources.gpus:g} GPUs, but the cluster has {held}: {why}; "
        "change resources.cpus_per_trial, "
        "gpus_per_trial, accelerator_type or custom, or set resources.may_grow=true if nodes are added on demand"
    )


def assignment_factory(plan: "Plan", root: str, resources: TrialResources) -> Callable[[int, TrialConfig], Any]:
    """Return what makes a worker's assignment of a trial's number and configuration."""
    from trainables.worker.trainable import Assignment

    def assign(number: int, trial: TrialConfig) -> Assignment:
        return Assignment(
            number=number,
            trial=plan.assigned(number, trial),
            data=plan.config.data,
            task=plan.dataset.task,
            fingerprint=plan.dataset.fingerprint,
            metric=plan.metric,
            folder=trial_folder(root, number),
            threads=resources.cpus,
            workers=resources.cpus - 1 if resources.gpus else 0,
            manifest=plan.manifest,
            replicas=resources.replicas,
            sync_batch_norm=plan.config.resources.sync_batch_norm,
        )

    return assign
