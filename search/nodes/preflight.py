"""The check of every node before trials start: a table of findings, and an error that names each failure, its node and the remedy."""

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from io import StringIO
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from cluster.on_each_node import Answer, Node, run_on_each_node
from search.formatting import one_line
from search.nodes.inspection import CHECKS, Finding, NodeReport, Requirements, inspect_node
from search.nodes.resources import TrialResources
from search.nodes.versions import versions
from trainables.errors import ResourceError
from trainables.storage.root import Root

if TYPE_CHECKING:
    from search.plan import Plan

ANSWER_SECONDS = 120.0
"""How long a node may take to answer: the first call starts a worker there, and it may have to download weights."""
SKEW_SECONDS = 30.0
"""How far a node's clock may differ from the driver's. With more, the recorded spans of trials and the leases are wrong."""
CELL_WIDTH = 26
"""Characters of a finding in the table. The error message holds the whole text of a failure."""
MAX_ROWS = 40
SEES_ALL_GPUS = {"RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
"""Keeps the GPUs visible to a task that requests none."""
WriteLine = Callable[[str], None]
OnProgress = Callable[[int, int], None]
"""Called with the number of nodes that have answered and the number of all nodes."""


@dataclass(frozen=True)
class NodeFindings:
    """The findings on one node: the name of each check, ``clock`` included, → its finding."""

    node: Node
    findings: Mapping[str, Finding]

    @property
    def failures(self) -> dict[str, str]:
        """Name of a failed check → what is wrong and what to do."""
        return {name: finding.text for name, finding in self.findings.items() if not finding.ok}


def preflight(
    plan: "Plan", resources: TrialResources, root: str | None, manifest: str | None, write: WriteLine, on_progress: OnProgress
) -> None:
    """Check every node for a search, and pass the table of findings to `write` line by line.

    Raises ``ResourceError`` that names each failed check, its node and the remedy. Arguments as for `inspect_nodes`.
    """
    nodes = inspect_nodes(plan, resources, root, manifest, on_progress)
    for line in findings_table(nodes).splitlines():
        write(line)
    failures = [f"{found.node.name}: {name}: {text}" for found in nodes for name, text in found.failures.items()]
    if failures:
        count = sum(bool(found.failures) for found in nodes)
        listed = "\n".join(f"  {one_line(line)}" for line in failures)
        raise ResourceError(f"{count} of {len(nodes)} nodes cannot run trials:\n{listed}")


def inspect_nodes(
    plan: "Plan", resources: TrialResources, root: str | None, manifest: str | None, on_progress: OnProgress | None = None
) -> list[NodeFindings]:
    """Run the checks on every node at once and return their findings, the head node's first.

    `root` is the study's root and `manifest` the location of the data's manifest; if one is None, its check is skipped. A file is written
    below `root`, to see whether the nodes can read it, and then removed.
    """
    probe = f".preflight-{uuid.uuid4().hex}"
    required = Requirements(
        versions=versions(),
        bytes=plan.dataset.images.nbytes,
        weights=tuple((name, plan.config.weights) for name in dict.fromkeys(plan.space.possible_values("backbone"))),
        manifest=manifest,
        root=root,
        probe=probe,
    )
    if root is not None:
        Root(root).write(probe, b"the driver")
    try:
        answers = run_on_each_node(
            inspect_node, required, resources.gpus, seconds=ANSWER_SECONDS, environment=SEES_ALL_GPUS, on_progress=on_progress
        )
    finally:
        if root is not None:
            Root(root).remove(probe)
    return [findings_of(answer) for answer in answers]


def findings_of(answer: Answer) -> NodeFindings:
    """Return the findings in a node's answer, and that of its clock. If the node gave no findings, its first check fails with the error."""
    if answer.error:
        return NodeFindings(answer.node, {next(iter(CHECKS)): Finding(False, answer.error)})
    report: NodeReport = answer.value
    return NodeFindings(answer.node, {**report.findings, "clock": check_clock(report.at, answer.sent, answer.came)})


def check_clock(node_time: float, sent: float, came: float) -> Finding:
    """Return whether a node's clock is within `SKEW_SECONDS` of the driver's; all three times are in seconds since the epoch.

    The node read its clock between the driver's `sent` and `came`, so the result is the least by which the two differ.
    """
    skew = max(sent - node_time, node_time - came, 0.0)
    if skew > SKEW_SECONDS:
        return Finding(False, f"its clock is {skew:.0f} s from the driver's; set both by NTP")
    return Finding(True, "in step" if skew < 1 else f"{skew:.0f} s off")


def findings_table(nodes: list[NodeFindings], width: int = 150) -> str:
    """Return the findings as a text table `width` characters wide, with a row for each node.

    Of more than `MAX_ROWS` nodes, those with failures come first, and a last line counts the rest.
    """
    drawn = Table(title=None, box=None, pad_edge=False, collapse_padding=True)
    for column in ("node", *CHECKS, "clock"):
        drawn.add_column(column, no_wrap=True)
    ordered = sorted(nodes, key=lambda found: not found.failures) if len(nodes) > MAX_ROWS else nodes
    for found in ordered[:MAX_ROWS]:
        cells = (found.findings.get(column) for column in (*CHECKS, "clock"))
        drawn.add_row(Text(one_line(found.node.name)), *(Text(_cell(finding)) for finding in cells))
    console = Console(file=StringIO(), width=width, color_system=None)
    console.print(drawn)
    text = str(console.file.getvalue())  # type: ignore[attr-defined]
    more = len(nodes) - MAX_ROWS
    return "\n".join(line.rstrip() for line in text.splitlines()) + (f"\nand {more} more nodes" if more > 0 else "")


def _cell(finding: Finding | None) -> str:
    if finding is None:
        return ""
    text = one_line(finding.text)
    return f"{'✓' if finding.ok else '✗'} {text if len(text) <= CELL_WIDTH else text[: CELL_WIDTH - 1] + '…'}"
