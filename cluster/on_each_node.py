"""One call on every node of the cluster, beside whatever runs there."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from trainables.errors import InjertoError

LOOK_SECONDS = 0.5
Told = Callable[[int, int], None]
"""Hears how many of how many nodes have answered."""


@dataclass(frozen=True)
class Node:
    """A living node."""

    id: str
    name: str  # host name, and the address where several nodes share it
    resources: Mapping[str, float]
    head: bool

    @property
    def gpus(self) -> float:
        """GPUs of the node."""
        return self.resources.get("GPU", 0.0)


@dataclass(frozen=True)
class Answer:
    """What a node gave back, or why it gave nothing."""

    node: Node
    value: Any = None
    error: str = ""
    sent: float = 0.0  # seconds since the epoch, by this machine's clock
    came: float = 0.0


def living() -> list[Node]:
    """Return the nodes of the cluster that this process has joined, the head first."""
    import ray

    alive = [node for node in ray.nodes() if node["Alive"]]
    names = [node["NodeManagerHostname"] for node in alive]
    found = [
        Node(
            node["NodeID"],
            name if names.count(name) == 1 else f"{name} ({node['NodeManagerAddress']})",
            node["Resources"],
            "node:__internal_head__" in node["Resources"],
        )
        for node, name in zip(alive, names, strict=True)
    ]
    return sorted(found, key=lambda node: (not node.head, node.name))


def on_each(
    function: Callable[..., Any],
    *arguments: Any,
    seconds: float,
    nodes: list[Node] | None = None,
    environment: Mapping[str, str] | None = None,
    told: Told | None = None,
) -> list[Answer]:
    """Call a function on every node, without any of its processors or GPUs, and return the answers in the order of the nodes.

    One that has not answered in time, or has died, gives an error in words; an ``InjertoError`` there gives its own.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    nodes = living() if nodes is None else nodes
    task = ray.remote(num_cpus=0, max_retries=0)(function)
    brings = {"runtime_env": {"env_vars": dict(environment)}} if environment else {}
    waiting: dict[Any, tuple[Node, float]] = {}
    for node in nodes:
        here = NodeAffinitySchedulingStrategy(node.id, soft=False)
        waiting[task.options(scheduling_strategy=here, **brings).remote(*arguments)] = node, time.time()
    answers: dict[str, Answer] = {}
    until = time.monotonic() + seconds
    while waiting and time.monotonic() < until:
        done, _ = ray.wait(list(waiting), timeout=LOOK_SECONDS)
        for reference in done:
            node, sent = waiting.pop(reference)
            answers[node.id] = _answer(node, reference, sent)
        if told:
            told(len(answers), len(nodes))
    for reference, (node, sent) in waiting.items():
        ray.cancel(reference, force=True)
        answers[node.id] = Answer(node, error=f"no answer within {seconds:.0f} s", sent=sent, came=time.time())
    return [answers[node.id] for node in nodes]


def _answer(node: Node, reference: Any, sent: float) -> Answer:
    import ray

    came = time.time()
    try:
        return Answer(node, ray.get(reference), sent=sent, came=came)
    except ray.exceptions.RayTaskError as error:
        cause = error.cause
        said = str(cause) if isinstance(cause, InjertoError) else f"{type(cause).__name__}: {cause}"
    except ray.exceptions.RayError as error:
        said = " ".join(str(error).split())[:300]
    return Answer(node, error=said or "it gave no reason", sent=sent, came=came)
