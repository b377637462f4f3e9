"""How a search is drawn on a terminal: plain values in, a Rich renderable out. The live view and `status --watch` share it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from search.events import Gauge
from search.formatting import amount, duration, number, plain, sparkline

STYLES = {
    "finished": "green",
    "stopped": "yellow",
    "failed": "red",
    "running": "cyan",
    "queued": "dim",
    "paused": "blue",
    "retry": "magenta",
}
TROUBLES = 3
NARROW = 100
CURVE = {True: 10, False: 20}
"""Width of a running trial's curve on a narrow and on a wide terminal."""


@dataclass(frozen=True)
class Best:
    """The best finished trial: its value, the seconds of the search after which it came, its curve, its gain over the default recipe."""

    number: int
    value: float
    after: float | None = None
    gain: float | None = None
    curve: Sequence[float] = ()


@dataclass(frozen=True)
class Row:
    """A running trial; `speed` in images a second, `config` in brief."""

    number: int
    epoch: int
    epochs: int
    config: str
    curve: Sequence[float] = ()
    speed: float | None = None


@dataclass(frozen=True)
class Snapshot:
    """How a search stands at one moment."""

    metric: str
    counts: Mapping[str, int]
    gauges: Sequence[Gauge] = ()
    best: Best | None = None
    left: float | None = None
    running: Sequence[Row] = ()
    troubles: Sequence[str] = field(default=())

    @property
    def speed(self) -> float:
        """Images a second of all running trials together."""
        return sum(row.speed for row in self.running if row.speed is not None and math.isfinite(row.speed))


def draw(snapshot: Snapshot, width: int, height: int) -> RenderableType:
    """Return the view for a terminal of so many columns and rows; running trials that do not fit are counted.

    Its last line is empty: a terminal echoes ``^C`` there, and on a full line that would push the view up by a row.
    """
    narrow = width < NARROW
    parts: list[RenderableType] = [_head(snapshot, 24 if narrow else 48), _gauges(snapshot, 16 if narrow else 40)]
    troubles = snapshot.troubles[-TROUBLES:]
    parts += [Text(plain(trouble), style="red", no_wrap=True, overflow="ellipsis") for trouble in troubles]
    taken = (5 if snapshot.best else 4) + len(snapshot.gauges) + len(troubles) + 4
    return Group(*parts, _running(snapshot, narrow=narrow, rows=max(1, height - taken)), Text(""))


def in_counts(counts: Mapping[str, int]) -> Text:
    """Return trials by state, those states that have any."""
    shown = [Text(f"{count} {state}", style=STYLES.get(state, "")) for state, count in counts.items() if count]
    return Text(", ").join(shown) if shown else Text("none yet")


def in_words(best: Best, metric: str) -> str:
    """Return the best value, by which trial, when it came, and what it gained."""
    after = "" if best.after is None else f", after {duration(best.after)}"
    if best.gain is None or best.number == 0:
        return f"{metric} {best.value:.4g} (trial {best.number}{after})"
    gain = f"{abs(best.gain):.4g} {'over' if best.gain >= 0 else 'under'} the default recipe"
    return f"{metric} {best.value:.4g} (trial {best.number}{after}), {gain}"


def time_left(seconds: float | None) -> str:
    """Return an estimate in words."""
    if seconds is None:
        return "time left: measuring"
    return f"about {duration(seconds)} left" if seconds >= 1 else "almost done"


def _head(snapshot: Snapshot, width: int) -> Table:
    rows: list[tuple[str, RenderableType]] = [("trials", in_counts(snapshot.counts))]
    if snapshot.best is None:
        rows.append(("best", "none yet"))
    else:
        rows.append(("best", Text(in_words(snapshot.best, snapshot.metric), style="bold")))
        rows.append(("its curve", _with_ends(snapshot.best.curve, width)))
    speed = f"{number(round(snapshot.speed))} images/s, " if snapshot.speed else ""
    rows.append(("pace", speed + time_left(snapshot.left)))
    return _grid(rows)


def _with_ends(curve: Sequence[float], width: int) -> str:
    return f"{curve[0]:.3g} {sparkline(curve, width)} {curve[-1]:.3g}" if curve else ""


def _gauges(snapshot: Snapshot, width: int) -> Table:
    rows = []
    for gauge in snapshot.gauges:
        bar = ProgressBar(total=1.0, completed=gauge.share, width=width)
        rows.append((gauge.name, bar, amount(gauge.used, gauge.limit, gauge.unit)))
    return _grid(rows)


def _grid(rows: Sequence[tuple[RenderableType, ...]]) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True, min_width=14)
    for row in rows:
        table.add_row(*row)
    return table


def _running(snapshot: Snapshot, *, narrow: bool, rows: int) -> RenderableType:
    if not snapshot.running:
        return Group()
    table = Table(box=None, pad_edge=False, header_style="dim", expand=True)
    table.add_column("trial", justify="right", no_wrap=True)
    table.add_column("epoch", justify="right", no_wrap=True, min_width=6)
    table.add_column(snapshot.metric, justify="right", no_wrap=True, min_width=6)
    table.add_column("curve", no_wrap=True, min_width=CURVE[narrow])
    if not narrow:
        table.add_column("images/s", justify="right", no_wrap=True, min_width=8)
    table.add_column("configuration", no_wrap=True, overflow="ellipsis", ratio=1)
    for row in snapshot.running[:rows]:
        speed = () if narrow else ("" if row.speed is None else number(round(row.speed)),)
        value = f"{row.curve[-1]:.4g}" if row.curve else ""
        table.add_row(
            str(row.number), f"{row.epoch}/{row.epochs}", value, sparkline(row.curve, CURVE[narrow]), *speed, Text(plain(row.config))
        )
    over = len(snapshot.running) - rows
    return Group(Text(""), table, *([Text(f"and {over} more running", style="dim")] if over > 0 else []))
