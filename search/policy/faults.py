"""What went wrong, of which kind, and whether another try can help."""

import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from trainables.worker.node_draining import NodeDraining

POISON = 3
"""How many trials must fail alike, with nothing else to show, before a search is given up."""

TRIES: dict[str, int | None] = {"lost node": None, "lost worker": 3, "out of memory": 2, "other": 2}
"""Kind of fault that ends a worker → tries at one epoch before the trial fails; None is without end.

A worker may die of its own configuration, a node does not; an exception that came twice at the same place will come a third time.
"""

NODE = (
    NodeDraining.__name__,
    "node has died",
    "node was terminated",
    "node is dead",
    "preempted",
    "ActorUnavailableError",
    "NodeDiedError",
)
MEMORY = ("OutOfMemoryError", "out of memory", "running low on memory")
LOST = ("RayActorError", "ActorDiedError", "WorkerCrashedError", "ReplicaError")
WORKERS_GONE = (NodeDraining.__name__, "ReplicaError")
"""What a trial raises because of a worker or a node, and not of itself."""
KINDS = (("out of memory", MEMORY), ("lost node", NODE), ("lost worker", LOST))
"""Kind → words in Ray's account of an error, the first that fits."""


ANSI = re.compile(r"\x1b\[[0-9;]*m")
WORDS = {"lost worker": "its worker process died", "lost node": "its node went away"}
VARIOUS = ("other", "data", "configuration")


@dataclass(frozen=True)
class Fault:
    """One failure: its kind, a line on it, and all that is known."""

    kind: str
    message: str
    traceback: str = ""

    @property
    def way(self) -> tuple[str, str]:
        """What failures of the same way share: the kind and, where it can be many things, the message but for numbers and paths."""
        told = re.sub(r"/\S+|0x[0-9a-f]+|\d+(\.\d+)?(e[+-]?\d+)?", "#", self.message) if self.kind in VARIOUS else ""
        return self.kind, told

    def in_words(self) -> str:
        """Return the kind and the message."""
        return f"{self.kind}: {self.message}"


def fault_of(error: BaseException) -> Fault:
    """Return what Ray's account of a worker's end means."""
    text = ANSI.sub("", f"{type(error).__name__}: {error}")
    names = {cls.__name__ for cls in type(error).__mro__} | {type(getattr(error, "cause", None)).__name__}
    raised = "RayTaskError" in names and names.isdisjoint(WORKERS_GONE)
    kind = "other" if raised else next((kind for kind, words in KINDS if any(word in text or word in names for word in words)), "other")
    return Fault(kind, WORDS.get(kind) or summary(text), text)


@dataclass
class Faults:
    """Counts the failures of a search, so that nothing is tried a third time that failed twice the same way."""

    _tries: Counter[tuple[int, int, tuple[str, str]]] = field(default_factory=Counter)
    _failed: Counter[tuple[str, tuple[str, str]]] = field(default_factory=Counter)
    _alike: Counter[tuple[str, str]] = field(default_factory=Counter)
    _well: bool = False

    def may_retry(self, number: int, epoch: int, fault: Fault) -> bool:
        """Take note that a trial broke after `epoch` epochs; say whether it may go on from there."""
        self._tries[number, epoch, fault.way] += 1
        limit = TRIES[fault.kind]
        return limit is None or self._tries[number, epoch, fault.way] < limit

    def failed(self, config: Mapping[str, Any], fault: Fault, *, tries: int = 1) -> None:
        """Take note of a trial that failed for good, after so many tries."""
        self._failed[identity(config), fault.way] += tries
        self._alike[fault.way] += 1

    def ended_well(self) -> None:
        """Take note of a trial that did not fail."""
        self._well = True

    def refusal(self, config: Mapping[str, Any]) -> str | None:
        """Say why a configuration is not worth a third try, None where it is."""
        mine = identity(config)
        found = next((way for (key, way), count in self._failed.items() if key == mine and count >= 2), None)
        return f"this configuration has failed twice the same way ({found[0]})" if found else None

    def hopeless(self) -> bool:
        """Say whether all trials that ended failed alike, and enough of them did."""
        return not self._well and len(self._alike) == 1 and sum(self._alike.values()) >= POISON


def identity(config: Mapping[str, Any]) -> str:
    """Return what two trials of the same configuration share: everything but the seed."""
    return json.dumps({name: value for name, value in config.items() if name != "seed"}, sort_keys=True)


def summary(text: str) -> str:
    """Return the last line of an error's account that says something."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:500] if lines else "no reason given"
