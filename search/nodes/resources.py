"""The resources of a trial: its bundles of CPUs and GPUs, how many trials run at once, and the function that makes assignments."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from cluster.capacity import Bundle, Capacity
from search.config import Resources, SearchConfig
from search.record.artifacts import trial_folder
from trainables.config import TrialConfig
from trainables.errors import ConfigError, ResourceError

if TYPE_CHECKING:
    from search.plan import Plan

ACCELERATOR_SHARE = 0.001
"""A bundle's part of a node's resource ``accelerator_type:…``. Each node has 1 of it; Ray requests as little for ``accelerator_type=``."""


@dataclass(frozen=True)
class TrialResources:
    """What one trial requests of the cluster: `replicas` bundles, each on one node; and how many trials run at once.

    `slots` is that number at the start, `max_concurrent` the user's limit, and `may_grow` says that the cluster adds nodes on demand.
    """

    bundle: Bundle
    replicas: int = 1
    slots: int = 1
    max_concurrent: int | None = None
    may_grow: bool = False

    @property
    def cpus(self) -> int:
        """CPUs of one bundle."""
        return int(self.bundle["CPU"])

    @property
    def gpus(self) -> float:
        """GPUs of the whole trial; may be a fraction of one."""
        return self.bundle.get("GPU", 0.0) * self.replicas

    def max_trials(self, capacity: Capacity) -> int:
        """Return how many trials may run at once on the cluster's present capacity; at least 1, because nodes may return.

        If the cluster adds nodes on demand, this is one more than fits: the autoscaler adds a node for the trial that waits.
        """
        slots = capacity.slots(self.bundle, self.replicas) + self.may_grow
        return max(1, min(slots, self.max_concurrent or slots))

    def placement_group_factory(self) -> Any:
        """Return a trial's request to Ray Tune: its bundles, packed on as few nodes as possible."""
        from ray import tune

        return tune.PlacementGroupFactory([dict(self.bundle)] * self.replicas)

    def remote_options(self) -> dict[str, Any]:
        """Return the keyword arguments of ``ray.remote`` for a task or an actor that takes one bundle."""
        others = {name: amount for name, amount in self.bundle.items() if name not in ("CPU", "GPU")}
        return {"num_cpus": self.cpus, "num_gpus": self.bundle.get("GPU", 0.0), "resources": others}


def fit_to_cluster(capacity: Capacity, config: SearchConfig) -> TrialResources:
    """Return the resources of each trial, as configured and otherwise from the cluster's capacity.

    Without a setting a trial gets one GPU if there are any, and that GPU's share of its node's CPUs. Raises ``ConfigError`` for a budget of
    GPU-hours without GPUs. Raises ``ResourceError`` if no trial fits, unless
    `resources.may_grow` says that the cluster adds nodes on demand.
    """
    wanted = config.resources
    gpus = wanted.gpus_per_trial if wanted.gpus_per_trial is not None else min(1.0, capacity.gpus)
    if config.budget.gpu_hours is not None and not gpus:
        raise ConfigError("budget.gpu_hours limits GPU time, but trials here have no GPU; set budget.time instead")
    replicas = max(1, int(gpus))
    bundle = {"CPU": float(wanted.cpus_per_trial or _even_cpus(capacity, gpus / replicas))}
    if gpus:
        bundle["GPU"] = gpus / replicas
    if wanted.accelerator_type is not None:
        bundle[f"accelerator_type:{wanted.accelerator_type}"] = ACCELERATOR_SHARE
    resources = TrialResources(bundle | wanted.custom, replicas, max_concurrent=wanted.max_concurrent_trials, may_grow=wanted.may_grow)
    if not capacity.slots(resources.bundle, replicas) and not wanted.may_grow:
        raise ResourceError(_no_room_message(capacity, resources, wanted))
    return replace(resources, slots=resources.max_trials(capacity))


def _even_cpus(capacity: Capacity, gpus: float) -> int:
    """Return the CPUs that belong to so many GPUs if each GPU node divides its CPUs evenly among its GPUs; 1 without GPUs."""
    parts = [node.get("CPU", 0.0) * gpus / node["GPU"] for node in capacity.nodes if gpus and node.get("GPU")]
    return max(1, int(min(parts, default=1.0)))


def _no_room_message(capacity: Capacity, resources: TrialResources, wanted: Resources) -> str:
    why = capacity.lacking(resources.bundle)
    if not why:
        room = capacity.slots(resources.bundle)
        why = f"it takes {resources.replicas} bundles, but there is room for {room}"
    count = len(capacity.nodes)
    total = f"{count} node{'s' if count != 1 else ''}, {capacity.cpus:g} CPUs and {capacity.gpus:g} GPUs"
    return (
        f"a trial needs {resources.cpus * resources.replicas} CPUs and {resources.gpus:g} GPUs, but the cluster has {total}: {why}; "
        "change resources.cpus_per_trial, "
        "gpus_per_trial, accelerator_type or custom, or set resources.may_grow=true if nodes are added on demand"
    )


def assignment_factory(plan: "Plan", root: str, resources: TrialResources) -> Callable[[int, TrialConfig], Any]:
    """Return a function that makes a worker's `Assignment` from a trial's number and configuration; `root` is the study's."""
    from trainables.worker.assignment import Assignment

    def assign(number: int, trial: TrialConfig) -> Assignment:
        return Assignment(
            number=number,
            trial=plan.with_seed(number, trial),
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
            feature_cache=plan.config.resources.feature_cache,
        )

    return assign
