"""Classifies faults, and decides whether a trial is tried again, a configuration is refused, or a search is hopeless."""

import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from trainables.worker.node_draining import NodeDraining

HOPELESS_AFTER = 3
"""Failed trials after which a search stops, if all of them failed alike and no trial has succeeded."""
REFUSED_AFTER = 2
"""Failures of one configuration with the same signature after which it is not tried again."""

MAX_TRIES: dict[str, int | None] = {"lost node": None, "lost worker": 3, "out of memory": 2, "other": 2}
"""Kind of fault that ends a worker → tries at one epoch before the trial fails; None means no limit.

A configuration may be what kills a worker process, but not what ends a node. An exception that came twice at one place will come again.
"""

LOST_NODE = (
    NodeDraining.__name__,
    "node has died",
    "node was terminated",
    "node is dead",
    "preempted",
    "ActorUnavailableError",
    "NodeDiedError",
)
OUT_OF_MEMORY = ("OutOfMemoryError", "out of memory", "running low on memory")
LOST_WORKER = ("RayActorError", "ActorDiedError", "WorkerCrashedError", "ReplicaError")
RAISED_FOR_WORKER = (NodeDraining.__name__, "ReplicaError")
"""Exceptions that a trial raises because a worker or a node is lost, not because of its own code."""
KINDS = (("out of memory", OUT_OF_MEMORY), ("lost node", LOST_NODE), ("lost worker", LOST_WORKER))
"""Kind → texts in Ray's description of an error that mark it; the first kind that matches counts."""


ANSI = re.compile(r"\x1b\[[0-9;]*m")
MESSAGES = {"lost worker": "its worker process died", "lost node": "its node went away"}
VARIOUS = ("other", "data", "configuration")
"""Kinds that cover several causes, so that their messages must be compared, too."""


@dataclass(frozen=True)
class Fault:
    """A failure that ended a worker or a trial: its kind, a message of one line, and Ray's or Python's whole text.

    The kind is a key of `MAX_TRIES`, or one that a trial reports itself, such as ``data`` or ``non-finite``.
    """

    kind: str
    message: str
    traceback: str = ""

    @property
    def signature(self) -> tuple[str, str]:
        """What two faults with the same cause have in common: the kind and, for a kind of several causes, the message.

        Numbers and paths in the message are masked.
        """
        masked = re.sub(r"/\S+|0x[0-9a-f]+|\d+(\.\d+)?(e[+-]?\d+)?", "#", self.message) if self.kind in VARIOUS else ""
        return self.kind, masked

    def as_text(self) -> str:
        """Return the fault as ``kind: message``."""
        return f"{self.kind}: {self.message}"


def classify_error(error: BaseException) -> Fault:
    """Return the fault that an error from Ray stands for, by its class, its cause and its text; the kind is a key of `MAX_TRIES`.

    An exception of the trial's own code is of kind ``other``, whatever its text says.
    """
    text = ANSI.sub("", f"{type(error).__name__}: {error}")
    names = {cls.__name__ for cls in type(error).__mro__} | {type(getattr(error, "cause", None)).__name__}
    raised = "RayTaskError" in names and names.isdisjoint(RAISED_FOR_WORKER)
    kind = "other" if raised else next((kind for kind, marks in KINDS if any(mark in text or mark in names for mark in marks)), "other")
    return Fault(kind, MESSAGES.get(kind) or last_line(text), text)


@dataclass
class Faults:
    """Counts the faults of a search. A configuration that has failed twice for the same cause is not tried again."""

    _tries: Counter[tuple[int, int, tuple[str, str]]] = field(default_factory=Counter)
    _failed: Counter[tuple[str, tuple[str, str]]] = field(default_factory=Counter)
    _failed_trials: Counter[tuple[str, str]] = field(default_factory=Counter)
    _any_success: bool = False

    def may_retry(self, number: int, epoch: int, fault: Fault) -> bool:
        """Count a fault that ended a trial's worker after `epoch` epochs; return whether the trial may continue from there.

        It may while the faults with the same signature at that epoch, this one included, are fewer than `MAX_TRIES` of the kind, or always
        if that is None.
        """
        self._tries[number, epoch, fault.signature] += 1
        limit = MAX_TRIES[fault.kind]
        return limit is None or self._tries[number, epoch, fault.signature] < limit

    def failed(self, config: Mapping[str, Any], fault: Fault, *, tries: int = 1) -> None:
        """Count a trial that failed for good; `tries` is how often the fault came, which counts against the configuration."""
        self._failed[configuration_key(config), fault.signature] += tries
        self._failed_trials[fault.signature] += 1

    def succeeded(self) -> None:
        """Note that a trial ended without a failure: it finished or was stopped. The search is then never hopeless."""
        self._any_success = True

    def refusal(self, config: Mapping[str, Any]) -> str | None:
        """Return a message why a configuration is not tried again, None if it may be tried."""
        wanted = configuration_key(config)
        failures = ((signature, count) for (key, signature), count in self._failed.items() if key == wanted)
        kind = next((kind for (kind, _), count in failures if count >= REFUSED_AFTER), None)
        return f"this configuration has failed twice the same way ({kind})" if kind is not None else None

    def hopeless(self) -> bool:
        """Return whether no trial has succeeded and at least `HOPELESS_AFTER` trials failed, all with one signature."""
        return not self._any_success and len(self._failed_trials) == 1 and sum(self._failed_trials.values()) >= HOPELESS_AFTER


def configuration_key(config: Mapping[str, Any]) -> str:
    """Return a text that is equal for two trials with the same configuration; the seed is left out."""
    return json.dumps({name: value for name, value in config.items() if name != "seed"}, sort_keys=True)


def last_line(text: str) -> str:
    """Return the last line of an error's text that is not blank, at most 500 characters; ``no reason given`` if there is none."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:500] if lines else "no reason given"
