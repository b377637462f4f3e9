"""The snapshot of a search, and the functions that turn it into a Rich renderable for the live view and for `status --watch`."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from search.events import Gauge
from search.formatting import amount, duration, number, one_line, sparkline

STYLES = {
    "finished": "green",
    "stopped": "yellow",
    "failed": "red",
    "running": "cyan",
    "queued": "dim",
    "paused": "blue",
    "retry": "magenta",
}
MAX_PROBLEMS = 3
"""Failures and retries that the view shows."""
WIDE = 100
"""Columns from which on a terminal counts as wide."""
CURVE_WIDTH = {True: 20, False: 10}
"""Width of a running trial's curve on a wide terminal (True) and on a narrow one."""


@dataclass(frozen=True)
class Best:
    """The best finished trial.

    `after_seconds` is the time from the start of the search to the trial's end, `gain` its value minus the default recipe's, and
    `curve` its objective after each epoch.
    """

    number: int
    value: float
    after_seconds: float | None = None
    gain: float | None = None
    curve: Sequence[float] = ()


@dataclass(frozen=True)
class RunningRow:
    """A running trial after `epoch` of `epochs` epochs.

    `config` is its configuration in short form, `curve` its objective after each epoch, `speed` in training images per second.
    """

    number: int
    epoch: int
    epochs: int
    config: str
    curve: Sequence[float] = ()
    speed: float | None = None


@dataclass(frozen=True)
class Snapshot:
    """The state of a search at one moment.

    `counts` maps a trial's state to the number of trials, `gauges` say how much of each budget is used, and `seconds_left` is None if there
    is no estimate. `problems` are the latest failures and retries, one line each.
    """

    metric: str
    counts: Mapping[str, int]
    gauges: Sequence[Gauge] = ()
    best: Best | None = None
    seconds_left: float | None = None
    running: Sequence[RunningRow] = ()
    problems: Sequence[str] = field(default=())

    @property
    def speed(self) -> float:
        """Images per second of all running trials together."""
        return sum(row.speed for row in self.running if row.speed is not None and math.isfinite(row.speed))


def render_snapshot(snapshot: Snapshot, width: int, height: int) -> RenderableType:
    """Return the view for a terminal of `width` columns and `height` rows; running trials that do not fit are only counted.

    The last line is empty: a terminal echoes ``^C`` there, and on a full line that would push the view up by a row.
    """
    wide = width >= WIDE
    problems = snapshot.problems[-MAX_PROBLEMS:]
    parts: list[RenderableType] = [
        _overview(snapshot, curve_width=48 if wide else 24),
        _gauges(snapshot, bar_width=40 if wide else 16),
        *(Text(one_line(problem), style="red", no_wrap=True, overflow="ellipsis") for problem in problems),
    ]
    used = (5 if snapshot.best else 4) + len(snapshot.gauges) + len(problems) + 4
    return Group(*parts, _running_trials(snapshot, wide=wide, rows=max(1, height - used)), Text(""))


def counts_as_text(counts: Mapping[str, int]) -> Text:
    """Return coloured text such as ``3 finished, 1 running`` for a mapping from state to number of trials; states with 0 are left out."""
    parts = [Text(f"{count} {state}", style=STYLES.get(state, "")) for state, count in counts.items() if count]
    return Text(", ").join(parts) if parts else Text("none yet")


def best_as_text(best: Best, metric: str) -> str:
    """Return text with the best value of the metric, its trial, the time from the search's start to it, and its gain over the default."""
    after = "" if best.after_seconds is None else f", after {duration(best.after_seconds)}"
    if best.gain is None or best.number == 0:
        return f"{metric} {best.value:.4g} (trial {best.number}{after})"
    gain = f"{abs(best.gain):.4g} {'over' if best.gain >= 0 else 'under'} the default recipe"
    return f"{metric} {best.value:.4g} (trial {best.number}{after}), {gain}"


def time_left_as_text(seconds: float | None) -> str:
    """Return an estimate of the time left as text; None means that there is none yet."""
    if seconds is None:
        return "time left: measuring"
    return f"about {duration(seconds)} left" if seconds >= 1 else "almost done"


def _overview(snapshot: Snapshot, *, curve_width: int) -> Table:
    rows: list[tuple[str, RenderableType]] = [("trials", counts_as_text(snapshot.counts))]
    if snapshot.best is None:
        rows.append(("best", "none yet"))
    else:
        rows.append(("best", Text(best_as_text(snapshot.best, snapshot.metric), style="bold")))
        rows.append(("its curve", _curve_with_ends(snapshot.best.curve, curve_width)))
    speed = f"{number(round(snapshot.speed))} images/s, " if snapshot.speed else ""
    rows.append(("pace", speed + time_left_as_text(snapshot.seconds_left)))
    return _grid(rows)


def _curve_with_ends(curve: Sequence[float], width: int) -> str:
    return f"{curve[0]:.3g} {sparkline(curve, width)} {curve[-1]:.3g}" if curve else ""


def _gauges(snapshot: Snapshot, *, bar_width: int) -> Table:
    rows = []
    for gauge in snapshot.gauges:
        bar = ProgressBar(total=1.0, completed=gauge.share, width=bar_width)
        rows.append((gauge.name, bar, amount(gauge.used, gauge.limit, gauge.unit)))
    return _grid(rows)


def _grid(rows: Sequence[tuple[RenderableType, ...]]) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True, min_width=14)
    for row in rows:
        table.add_row(*row)
    return table


def _running_trials(snapshot: Snapshot, *, wide: bool, rows: int) -> RenderableType:
    if not snapshot.running:
        return Group()
    table = Table(box=None, pad_edge=False, header_style="dim", expand=True)
    table.add_column("trial", justify="right", no_wrap=True)
    table.add_column("epoch", justify="right", no_wrap=True, min_width=6)
    table.add_column(snapshot.metric, justify="right", no_wrap=True, min_width=6)
    table.add_column("curve", no_wrap=True, min_width=CURVE_WIDTH[wide])
    if wide:
        table.add_column("images/s", justify="right", no_wrap=True, min_width=8)
    table.add_column("configuration", no_wrap=True, overflow="ellipsis", ratio=1)
    for row in snapshot.running[:rows]:
        speed = ("" if row.speed is None else number(round(row.speed)),) if wide else ()
        value = f"{row.curve[-1]:.4g}" if row.curve else ""
        table.add_row(
            str(row.number), f"{row.epoch}/{row.epochs}", value, sparkline(row.curve, CURVE_WIDTH[wide]), *speed, Text(one_line(row.config))
        )
    hidden = len(snapshot.running) - rows
    return Group(Text(""), table, *([Text(f"and {hidden} more running", style="dim")] if hidden > 0 else []))
