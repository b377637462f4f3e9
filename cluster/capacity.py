"""What a cluster can run at once: the resources of its nodes, and how many bundles of them fit."""

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass

Bundle = Mapping[str, float]
"""Ray's resource names (``CPU``, ``GPU``, ``accelerator_type:T4``, custom ones) → the amount needed of each on one node."""
SLACK = 1e-9
"""Rounding error that is allowed when a node's amount is divided by a fraction of a GPU."""


def usable_cpus() -> int:
    """Return the number of CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True)
class Capacity:
    """The total resources of the nodes that are alive, one mapping for each node; what runs there already is not subtracted."""

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
        """Return how many trials can run at once if each takes `replicas` bundles.

        A bundle must fit on one node. The bundles of one trial may be on different nodes.
        """
        return sum(_fits(node, bundle) for node in self.nodes) // replicas

    def lacking(self, bundle: Bundle) -> str:
        """Return why no node can take a bundle, such as ``no node has 8 CPUs (at most 4 on a node)``; empty if one can.

        If each part fits on some node but no node has all parts, the text names all parts.
        """
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
