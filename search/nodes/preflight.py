"""Before trials start on a cluster: every node looked at, one table, and what fails named with its node and the remedy."""

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from io import StringIO
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from cluster.on_each_node import Answer, Node, on_each
from search.formatting import plain
from search.nodes.inspection import CHECKS, Finding, Report, Wanted, inspect
from search.nodes.resources import TrialResources
from search.nodes.versions import versions
from trainables.errors import ResourceError
from trainables.storage.locations import Root

if TYPE_CHECKING:
    from search.plan import Plan

SECONDS = 120.0
"""How long a node may take; the first call on it starts a worker, and weights may be fetched."""
SKEW_SECONDS = 30.0
"""How far a node's clock may be from the driver's: further, and spans and leases tell nonsense."""
NARROW = 26
"""Characters of a finding in the table; all of a failure stands below it."""
MOST_ROWS = 40
SEES_ALL_GPUS = {"RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
"""For a check that looks at GPUs without taking one."""
Say = Callable[[str], None]


@dataclass(frozen=True)
class Outcome:
    """What was found on one node."""

    node: Node
    findings: Mapping[str, Finding]

    @property
    def failures(self) -> dict[str, str]:
        """Check → what is wrong and what to do."""
        return {name: finding.words for name, finding in self.findings.items() if not finding.well}


def preflight(
    plan: "Plan", resources: TrialResources, root: str | None, manifest: str | None, say: Say, told: Callable[[int, int], None]
) -> None:
    """Look at every node and say the table. Raises ``ResourceError`` that names each node where something fails."""
    outcomes = examine(plan, resources, root, manifest, told)
    for line in table(outcomes).splitlines():
        say(line)
    failed = [f"{outcome.node.name}: {name}: {words}" for outcome in outcomes for name, words in outcome.failures.items()]
    if failed:
        count = sum(bool(outcome.failures) for outcome in outcomes)
        listed = "\n".join(f"  {plain(line)}" for line in failed)
        raise ResourceError(f"{count} of {len(outcomes)} nodes cannot run trials:\n{listed}")


def examine(
    plan: "Plan", resources: TrialResources, root: str | None, manifest: str | None, told: Callable[[int, int], None] | None = None
) -> list[Outcome]:
    """Return what every node has found out about itself."""
    probe = f".preflight-{uuid.uuid4().hex}"
    wanted = Wanted(
        versions=versions(),
        bytes=plan.dataset.images.nbytes,
        weights=tuple((name, plan.config.weights) for name in dict.fromkeys(plan.space.reached("backbone"))),
        manifest=manifest,
        root=root,
        probe=probe,
    )
    if root is not None:
        Root(root).write(probe, b"the driver")
    try:
        answers = on_each(inspect, wanted, resources.gpus, seconds=SECONDS, environment=SEES_ALL_GPUS, told=told)
    finally:
        if root is not None:
            Root(root).remove(probe)
    return [_outcome(answer) for answer in answers]


def _outcome(answer: Answer) -> Outcome:
    if answer.error:
        return Outcome(answer.node, {"versions": Finding(False, answer.error)})
    report: Report = answer.value
    return Outcome(answer.node, {**report.findings, "clock": clock(report.at, answer.sent, answer.came)})


def clock(there: float, sent: float, came: float) -> Finding:
    """Return how far a node's clock is off at least: it was read between two readings of the driver's."""
    off = max(sent - there, there - came, 0.0)
    if off > SKEW_SECONDS:
        return Finding(False, f"its clock is {off:.0f} s from the driver's; set both by NTP")
    return Finding(True, "in step" if off < 1 else f"{off:.0f} s off")


def table(outcomes: list[Outcome], width: int = 150) -> str:
    """Return the outcomes as a table of text, a row a node; where there are very many, those with failures first."""
    drawn = Table(title=None, box=None, pad_edge=False, collapse_padding=True)
    for column in ("node", *CHECKS, "clock"):
        drawn.add_column(column, no_wrap=True)
    ordered = sorted(outcomes, key=lambda outcome: not outcome.failures) if len(outcomes) > MOST_ROWS else outcomes
    for outcome in ordered[:MOST_ROWS]:
        cells = (outcome.findings.get(column) for column in (*CHECKS, "clock"))
        drawn.add_row(Text(plain(outcome.node.name)), *(Text(_cell(finding)) for finding in cells))
    console = Console(file=StringIO(), width=width, color_system=None)
    console.print(drawn)
    text = str(console.file.getvalue())  # type: ignore[attr-defined]
    more = len(outcomes) - MOST_ROWS
    return "\n".join(line.rstrip() for line in text.splitlines()) + (f"\nand {more} more nodes" if more > 0 else "")


def _cell(finding: Finding | None) -> str:
    if finding is None:
        return ""
    words = plain(finding.words)
    return f"{'✓' if finding.well else '✗'} {words if len(words) <= NARROW else words[: NARROW - 1] + '…'}"
