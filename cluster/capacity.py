"""What a cluster can run at once: the resources of its nodes, and how many bundles of them fit."""

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass

Bundle = Mapping[str, float]
"""Ray's resource names (``CPU``, ``GPU``, ``accelerator_type:T4``, custom ones) → the amount needed of each on one node."""
SLACK = 1e-9
"""Rounding error that is allowed when fractions of a GPU are added up."""


def usable_cpus() -> int:
    """Return the number of CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True)
class Capacity:
    """The resources of the nodes that are alive, one mapping for each node."""

    nodes: tuple[Bundle, ...]

    @property
    def cpus(self) -> float:
        """CPUs of all nodes together."""
        return sum(node.get("CPU", 0.0) for node in self.nodes)

    @property
    def gpus(self) -> float:
        """GPUs of all nodes together."""
        return sum(node.get("GPU", 0.0) for node in self.nodes)

    def slots(self, bundle: Bundle, replicas: int = 1) -> int:
        """Return how many trials of `replicas` bundles each fit. A bundle needs a single node; the bundles of one trial may use several."""
        return sum(_fits(node, bundle) for node in self.nodes) // replicas

    def lacking(self, bundle: Bundle) -> str:
        """Return which part of a bundle no node has, or that no single node has all parts; empty if a node can take the bundle."""
        if any(_fits(node, bundle) for node in self.nodes):
            return ""
        most = {name: max((node.get(name, 0.0) for node in self.nodes), default=0.0) for name in bundle}
        short = [
            f"{amount_text(name, wanted)} (at most {most[name]:g} on a node)" for name, wanted in bundle.items() if wanted > most[name]
        ]
        return "no node has " + (
            " or ".join(short) if short else " and ".join(amount_text(name, wanted) for name, wanted in bundle.items())
        )


def amount_text(name: str, amount: float) -> str:
    """Return an amount of a resource for a message, such as ``8 CPUs`` or ``a GPU of type T4``."""
    known = {"CPU": "CPUs", "GPU": "GPUs"}
    if name.startswith("accelerator_type:"):
        return f"a GPU of type {name.partition(':')[2]}"
    return f"{amount:g} {known.get(name, f'of {name!r}')}"


def _fits(node: Bundle, bundle: Bundle) -> int:
    shares = [node.get(name, 0.0) / wanted for name, wanted in bundle.items() if wanted]
    return math.floor(min(shares, default=0.0) + SLACK)
