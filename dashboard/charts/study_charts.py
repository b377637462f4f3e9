"""Figures of whole studies, from the DataFrames of `study_data`."""

from collections.abc import Mapping, Sequence

import pandas as pd
import plotly.graph_objects as go

from dashboard.charts.palette import COLOR_CYCLE
from dashboard.charts.theme import NEUTRAL, STYLES, escape_html, figure

HOURS_FROM_MINUTES = 180
"""Searches that took more minutes than this are drawn in hours."""
MOST_MARKS = 1000
"""Approximate greatest number of markers in a chart; more are slow in a browser."""
AXES = {"time": "minutes", "trials": "ended"}
"""Name of a horizontal axis, as the viewer chooses it → its column of `study_data.best_so_far`."""


def best_so_far(frame: pd.DataFrame, metric: str, *, default: float | None, against: str = "time") -> go.Figure:
    """Return a figure of `study_data.best_so_far`: a marker per ended trial, and the best value so far as a line with steps.

    `default`, the default recipe's value, is a horizontal line. `against`: the horizontal axis, a key of `AXES`.
    """
    places, title = _places(frame, against)
    chart = figure(f"validation {metric}", title)
    for state, rows in thinned(frame).groupby("state", sort=True):
        style = STYLES[str(state)]
        chart.add_scatter(
            x=places[rows.index],
            y=rows["value"],
            customdata=rows["trial"],
            name=str(state),
            mode="markers",
            marker={"color": style.color, "size": 8, "symbol": style.symbol, "line": {"width": 1.8, "color": style.color}},
            opacity=style.opacity,
            hovertemplate="trial %{customdata}: %{y:.4g}<extra>" + str(state) + "</extra>",
        )
    best = frame.dropna(subset=["best"])
    steps = best[best["best"].ne(best["best"].shift()) | (best.index == best.index.max())]
    chart.add_scatter(
        x=places[steps.index],
        y=steps["best"],
        name="best so far",
        mode="lines",
        line={"color": STYLES["best"].color, "width": 3, "shape": "hv"},
        hovertemplate="best so far: %{y:.4g}<extra></extra>",
    )
    if default is not None and len(frame):
        _add_default_line(chart, [0, places.max()], default)
    chart.update_xaxes(rangemode="tozero")
    return chart


def thinned(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of `study_data.best_so_far` that get a marker: all, if they are at most `MOST_MARKS`.

    Of more, those with a new best value, those before the first finished trial, the latest, and evenly spaced others.
    """
    if len(frame) <= MOST_MARKS:
        return frame
    kept = frame["best"].ne(frame["best"].shift()) | (frame.index >= len(frame) - MOST_MARKS // 2)
    kept |= frame.index % (2 * len(frame) // MOST_MARKS + 1) == 0
    return frame[kept]


def _places(frame: pd.DataFrame, against: str, longest: float = 0.0) -> tuple[pd.Series, str]:
    """Return the positions of the rows of `study_data.best_so_far` on the horizontal axis, and the axis's title.

    `against`: a key of `AXES`. `longest`: minutes of the longest study on the same axis; it decides whether minutes or hours are used.
    """
    column = frame[AXES[against]].astype(float)
    if against == "trials":
        return column, "trials that have ended"
    scale, unit = (60, "hours") if max(longest, column.max()) > HOURS_FROM_MINUTES else (1, "minutes")
    return column / scale, f"{unit} since the first trial began"


def _add_default_line(chart: go.Figure, across: Sequence[float], value: float) -> None:
    """Add the default recipe's value to `chart` as a horizontal line. `across`: its two ends on the horizontal axis."""
    style = STYLES["default recipe"]
    chart.add_scatter(
        x=across,
        y=[value, value],
        name="default recipe",
        mode="lines",
        line=style.line,
        hovertemplate="default recipe: %{y:.4g}<extra></extra>",
    )


def curves(frame: pd.DataFrame, metric: str, rungs: Sequence[float] = ()) -> go.Figure:
    """Return a figure of `study_data.learning_curves`: a line per trial over its progress, and a vertical line at each of `rungs`.

    Both are in % of a trial's own epochs. The roles are drawn in the order of `STYLES`, so the best trial is on top.
    """
    chart = figure(f"validation {metric}", "progress of the trial (% of its epochs)")
    for role, style in STYLES.items():
        rows = frame[frame["role"] == role]
        if rows.empty:
            continue
        joined = _with_gaps(rows)
        chart.add_scatter(
            x=joined["progress"],
            y=joined["value"],
            customdata=joined["trial"],
            name=role,
            mode="lines+markers",
            line=style.line,
            marker={"size": style.width + 3},
            opacity=style.opacity,
            hovertemplate="trial %{customdata} at %{x:.0f} %: %{y:.4g}<extra>" + role + "</extra>",
        )
    for rung in rungs:
        chart.add_vline(x=rung, line={"color": NEUTRAL, "width": 1, "dash": "dot"}, annotation_text=f"rung {rung:.0f} %", opacity=0.8)
    chart.update_xaxes(range=[0, 102])
    return chart


def _with_gaps(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of `study_data.learning_curves` sorted by trial and progress, with an empty row after each trial.

    The empty rows (NaN) let one Plotly trace draw a separate line for each trial.
    """
    gaps = pd.DataFrame({"trial": rows["trial"].unique(), "progress": float("nan"), "value": float("nan")})
    joined = pd.concat([rows[["trial", "progress", "value"]], gaps])
    return joined.sort_values(["trial", "progress"], na_position="last", kind="stable")


def compared(frames: Mapping[str, pd.DataFrame], metric: str, *, against: str = "trials") -> go.Figure:
    """Return a figure of the best value so far of several studies, a line for each.

    `frames`: name of a study → its `study_data.best_so_far`. `against`: the horizontal axis, a key of `AXES`.
    """
    chart = figure(f"best validation {metric} so far")
    longest = max((frame["minutes"].max() for frame in frames.values() if len(frame)), default=0.0)
    for (name, frame), color in zip(frames.items(), _cycle(len(frames)), strict=True):
        places, title = _places(frame, against, longest)
        best = frame.dropna(subset=["best"])
        chart.add_scatter(
            x=places[best.index],
            y=best["best"],
            name=escape_html(name),
            mode="lines",
            line={"color": color, "width": 2.6, "shape": "hv"},
            hovertemplate="%{y:.4g}<extra>" + escape_html(name) + "</extra>",
        )
        chart.update_xaxes(title={"text": title}, rangemode="tozero")
    return chart


def overlaid(frame: pd.DataFrame, metric: str) -> go.Figure:
    """Return a figure of `study_data.learning_curves` of a few trials: a line per trial, each in its own colour."""
    chart = figure(f"validation {metric}", "progress of the trial (% of its epochs)")
    groups = list(frame.groupby("trial"))
    for (number, rows), color in zip(groups, _cycle(len(groups)), strict=True):
        chart.add_scatter(
            x=rows["progress"],
            y=rows["value"],
            name=f"trial {number}",
            mode="lines+markers",
            line={"color": color, "width": 2.4},
            hovertemplate=f"trial {number} at %{{x:.0f}} %: %{{y:.4g}}<extra></extra>",
        )
    return chart


def _cycle(count: int) -> list[str]:
    """Return `count` colours from `COLOR_CYCLE`, from the first on; after the last they repeat."""
    return [COLOR_CYCLE[place % len(COLOR_CYCLE)] for place in range(count)]


def timeline(frame: pd.DataFrame) -> go.Figure:
    """Return a figure of `study_data.work_spans`: a lane per worker, with a bar from begin to end of each period. Gaps are idle time."""
    frame = frame.assign(seconds=(frame["ended"] - frame["began"]).dt.total_seconds(), why=frame["why"].map(escape_html))
    lanes = sorted(frame["worker"].unique())
    chart = figure(height=120 + 34 * max(3, len(lanes)))
    for state, rows in frame.groupby("state", sort=True):
        style = STYLES[str(state)]
        chart.add_bar(
            base=rows["began"],
            x=rows["seconds"] * 1000,
            y=rows["worker"].map(escape_html),
            orientation="h",
            name=str(state),
            text=rows["trial"],
            textposition="inside",
            insidetextanchor="middle",
            marker={"color": style.color, "line": {"width": 1, "color": "rgba(255,255,255,0.7)"}},
            customdata=rows[["trial", "seconds", "why"]],
            hovertemplate="trial %{customdata[0]}: %{customdata[1]:.0f} s<br>%{customdata[2]}<extra>" + str(state) + "</extra>",
        )
    chart.update_layout(barmode="overlay", bargap=0.25)
    chart.update_xaxes(type="date")
    chart.update_yaxes(categoryorder="array", categoryarray=[escape_html(lane) for lane in lanes[::-1]])
    return chart
