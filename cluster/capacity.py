"""What a cluster can run at once: the resources of its nodes, and how often a bundle of them fits."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

Bundle = Mapping[str, float]
"""Ray's names of resources (``CPU``, ``GPU``, ``accelerator_type:T4``, one's own) → how much of each is wanted on one node."""
SLACK = 1e-9


@dataclass(frozen=True)
class Capacity:
    """The resources of the living nodes, one mapping a node."""

    nodes: tuple[Bundle, ...]

    @property
    def cpus(self) -> float:
        """Processors in all."""
        return sum(node.get("CPU", 0.0) for node in self.nodes)

    @property
    def gpus(self) -> float:
        """GPUs in all."""
        return sum(node.get("GPU", 0.0) for node in self.nodes)

    def slots(self, bundle: Bundle, replicas: int = 1) -> int:
        """Return how many trials of so many bundles fit; a bundle lies on one node, a trial's bundles may lie on several."""
        return sum(_fits(node, bundle) for node in self.nodes) // replicas

    def lacking(self, bundle: Bundle) -> str:
        """Say which part of a bundle no node has, or that no single node has all of it; empty where one has."""
        if any(_fits(node, bundle) for node in self.nodes):
            return ""
        most = {name: max((node.get(name, 0.0) for node in self.nodes), default=0.0) for name in bundle}
        short = [f"{in_words(name, wanted)} (at most {most[name]:g} on a node)" for name, wanted in bundle.items() if wanted > most[name]]
        return "no node has " + (" or ".join(short) if short else " and ".join(in_words(name, wanted) for name, wanted in bundle.items()))


def in_words(name: str, amount: float) -> str:
    """Return an amount of a resource as people say it."""
    known = {"CPU": "processors", "GPU": "GPUs"}
    if name.startswith("accelerator_type:"):
        return f"a GPU of type {name.partition(':')[2]}"
    return f"{amount:g} {known.get(name, f'of {name!r}')}"


def _fits(node: Bundle, bundle: Bundle) -> int:
    shares = [node.get(name, 0.0) / wanted for name, wanted in bundle.items() if wanted]
    return math.floor(min(shares, default=0.0) + SLACK)
