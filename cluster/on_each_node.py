"""Runs one function on every node of the cluster, without waiting for free CPUs or GPUs, and collects the answers."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from trainables.errors import InjertoError

POLL_SECONDS = 0.5
OnProgress = Callable[[int, int], None]
"""Called with the number of nodes that have answered and the number of all nodes."""


@dataclass(frozen=True)
class Node:
    """A node that was alive when `alive_nodes` listed it."""

    id: str
    name: str  # host name; followed by the address if several nodes have the same host name
    resources: Mapping[str, float]  # Ray's resource name → total amount
    head: bool

    @property
    def gpus(self) -> float:
        """Total number of GPUs of the node."""
        return self.resources.get("GPU", 0.0)


@dataclass(frozen=True)
class Answer:
    """The value that the function returned on a node, or why there is none in `error`, which is empty on success."""

    node: Node
    value: Any = None
    error: str = ""
    sent: float = 0.0  # seconds since the epoch, by this machine's clock
    came: float = 0.0  # the same; for a node without an answer, when the wait ended


def alive_nodes() -> list[Node]:
    """Return the nodes that are alive in the Ray that this process is connected to: the head first, the others by name."""
    import ray

    alive = [node for node in ray.nodes() if node["Alive"]]
    names = [node["NodeManagerHostname"] for node in alive]
    nodes = [
        Node(
            node["NodeID"],
            name if names.count(name) == 1 else f"{name} ({node['NodeManagerAddress']})",
            node["Resources"],
            "node:__internal_head__" in node["Resources"],
        )
        for node, name in zip(alive, names, strict=True)
    ]
    return sorted(nodes, key=lambda node: (not node.head, node.name))


def run_on_each_node(
    function: Callable[..., Any],
    *arguments: Any,
    seconds: float,
    nodes: list[Node] | None = None,
    environment: Mapping[str, str] | None = None,
    on_progress: OnProgress | None = None,
) -> list[Answer]:
    """Call a function with `arguments` on each of `nodes`, by default all alive ones; return the answers in the order of the nodes.

    The calls reserve no CPUs or GPUs and run at once. `environment` holds variables for the function's processes. `on_progress` is called
    at each answer and about twice a second. No error of a node is raised here: if the node dies, has not answered after `seconds`, or the
    function raises there, its answer holds an error text (the message alone for an ``InjertoError``, else with the error's type).
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    nodes = alive_nodes() if nodes is None else nodes
    task = ray.remote(num_cpus=0, max_retries=0)(function)
    runtime_env = {"runtime_env": {"env_vars": dict(environment)}} if environment else {}
    waiting: dict[Any, tuple[Node, float]] = {}
    for node in nodes:
        on_node = NodeAffinitySchedulingStrategy(node.id, soft=False)
        waiting[task.options(scheduling_strategy=on_node, **runtime_env).remote(*arguments)] = node, time.time()
    answers: dict[str, Answer] = {}
    deadline = time.monotonic() + seconds
    while waiting and time.monotonic() < deadline:
        done, _ = ray.wait(list(waiting), timeout=POLL_SECONDS)
        for reference in done:
            node, sent = waiting.pop(reference)
            answers[node.id] = _answer(node, reference, sent)
        if on_progress:
            on_progress(len(answers), len(nodes))
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
        message = str(cause) if isinstance(cause, InjertoError) else f"{type(cause).__name__}: {cause}"
    except ray.exceptions.RayError as error:
        message = " ".join(str(error).split())[:300]
    return Answer(node, error=message or "it gave no reason", sent=sent, came=came)
