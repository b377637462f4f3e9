"""DataFrames → figures of whole studies."""

from collections.abc import Mapping, Sequence

import pandas as pd
import plotly.graph_objects as go

from dashboard.charts.theme import COLORS, LOOKS, NEUTRAL, escaped, figure

LONG_MINUTES = 180
MOST_MARKS = 1000
"""Trials that are marked at the most, about; a browser draws no more in the blink of an eye."""
AXES = {"time": "minutes", "trials": "ended"}
"""What the progress of a search can be drawn against → the column of `frames.best_so_far`."""


def best_so_far(frame: pd.DataFrame, metric: str, *, default: float | None, against: str = "time") -> go.Figure:
    """Draw `frames.best_so_far`: each ended trial as a mark, the best until then as a stair, the default recipe as a line."""
    places, title = _places(frame, against)
    drawn = figure(f"validation {metric}", title)
    for state, rows in thinned(frame).groupby("state", sort=True):
        look = LOOKS[str(state)]
        drawn.add_scatter(
            x=places[rows.index],
            y=rows["value"],
            customdata=rows["trial"],
            name=str(state),
            mode="markers",
            marker={"color": look.color, "size": 8, "symbol": look.symbol, "line": {"width": 1.8, "color": look.color}},
            opacity=look.opacity,
            hovertemplate="trial %{customdata}: %{y:.4g}<extra>" + str(state) + "</extra>",
        )
    best = frame.dropna(subset=["best"])
    steps = best[best["best"].ne(best["best"].shift()) | (best.index == best.index.max())]
    drawn.add_scatter(
        x=places[steps.index],
        y=steps["best"],
        name="best so far",
        mode="lines",
        line={"color": LOOKS["best"].color, "width": 3, "shape": "hv"},
        hovertemplate="best so far: %{y:.4g}<extra></extra>",
    )
    if default is not None and len(frame):
        _level(drawn, [0, places.max()], default)
    drawn.update_xaxes(rangemode="tozero")
    return drawn


def thinned(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the trials that are marked: of many the best of their time, the latest, and some of the others, evenly spread."""
    if len(frame) <= MOST_MARKS:
        return frame
    kept = frame["best"].ne(frame["best"].shift()) | (frame.index >= len(frame) - MOST_MARKS // 2)
    kept |= frame.index % (2 * len(frame) // MOST_MARKS + 1) == 0
    return frame[kept]


def _places(frame: pd.DataFrame, against: str, longest: float = 0.0) -> tuple[pd.Series, str]:
    """Return where trials stand on the axis, and its title; `longest` is in minutes, of the longest study that shares it."""
    column = frame[AXES[against]].astype(float)
    if against == "trials":
        return column, "trials that have ended"
    scale, unit = (60, "hours") if max(longest, column.max()) > LONG_MINUTES else (1, "minutes")
    return column / scale, f"{unit} since the first trial began"


def _level(drawn: go.Figure, across: Sequence[float], value: float) -> None:
    """Draw the default recipe's value as a line."""
    look = LOOKS["default recipe"]
    drawn.add_scatter(
        x=across,
        y=[value, value],
        name="default recipe",
        mode="lines",
        line=look.line,
        hovertemplate="default recipe: %{y:.4g}<extra></extra>",
    )


def curves(frame: pd.DataFrame, metric: str, rungs: Sequence[float] = ()) -> go.Figure:
    """Draw `frames.curves`: a line per trial over its own progress, the roles in the order of `LOOKS`, the best on top, and the rungs."""
    drawn = figure(f"validation {metric}", "progress of the trial (% of its epochs)")
    for role, look in LOOKS.items():
        rows = frame[frame["role"] == role]
        if rows.empty:
            continue
        joined = _with_gaps(rows)
        drawn.add_scatter(
            x=joined["progress"],
            y=joined["value"],
            customdata=joined["trial"],
            name=role,
            mode="lines+markers",
            line=look.line,
            marker={"size": look.width + 3},
            opacity=look.opacity,
            hovertemplate="trial %{customdata} at %{x:.0f} %: %{y:.4g}<extra>" + role + "</extra>",
        )
    for rung in rungs:
        drawn.add_vline(x=rung, line={"color": NEUTRAL, "width": 1, "dash": "dot"}, annotation_text=f"rung {rung:.0f} %", opacity=0.8)
    drawn.update_xaxes(range=[0, 102])
    return drawn


def _with_gaps(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the trials one after another with an empty row after each, so that one trace draws them as separate lines."""
    gaps = pd.DataFrame({"trial": rows["trial"].unique(), "progress": float("nan"), "value": float("nan")})
    joined = pd.concat([rows[["trial", "progress", "value"]], gaps])
    return joined.sort_values(["trial", "progress"], na_position="last", kind="stable")


def compared(frames: Mapping[str, pd.DataFrame], metric: str, *, against: str = "trials") -> go.Figure:
    """Draw the best value so far of several studies, name → `frames.best_so_far`."""
    drawn = figure(f"best validation {metric} so far")
    longest = max((frame["minutes"].max() for frame in frames.values() if len(frame)), default=0.0)
    for (name, frame), color in zip(frames.items(), _cycle(len(frames)), strict=True):
        places, title = _places(frame, against, longest)
        best = frame.dropna(subset=["best"])
        drawn.add_scatter(
            x=places[best.index],
            y=best["best"],
            name=escaped(name),
            mode="lines",
            line={"color": color, "width": 2.6, "shape": "hv"},
            hovertemplate="%{y:.4g}<extra>" + escaped(name) + "</extra>",
        )
        drawn.update_xaxes(title={"text": title}, rangemode="tozero")
    return drawn


def overlaid(frame: pd.DataFrame, metric: str) -> go.Figure:
    """Draw the curves of a few trials over each other, each in a colour of its own: `frames.curves`."""
    drawn = figure(f"validation {metric}", "progress of the trial (% of its epochs)")
    groups = list(frame.groupby("trial"))
    for (number, rows), color in zip(groups, _cycle(len(groups)), strict=True):
        drawn.add_scatter(
            x=rows["progress"],
            y=rows["value"],
            name=f"trial {number}",
            mode="lines+markers",
            line={"color": color, "width": 2.4},
            hovertemplate=f"trial {number} at %{{x:.0f}} %: %{{y:.4g}}<extra></extra>",
        )
    return drawn


def _cycle(count: int) -> list[str]:
    return [COLORS[place % len(COLORS)] for place in range(count)]


def timeline(frame: pd.DataFrame) -> go.Figure:
    """Draw `frames.spans`: a lane per worker, a bar per stretch of work; what is empty was idle."""
    frame = frame.assign(seconds=(frame["ended"] - frame["began"]).dt.total_seconds(), why=frame["why"].map(escaped))
    lanes = sorted(frame["worker"].unique())
    drawn = figure(height=120 + 34 * max(3, len(lanes)))
    for state, rows in frame.groupby("state", sort=True):
        look = LOOKS[str(state)]
        drawn.add_bar(
            base=rows["began"],
            x=rows["seconds"] * 1000,
            y=rows["worker"].map(escaped),
            orientation="h",
            name=str(state),
            text=rows["trial"],
            textposition="inside",
            insidetextanchor="middle",
            marker={"color": look.color, "line": {"width": 1, "color": "rgba(255,255,255,0.7)"}},
            customdata=rows[["trial", "seconds", "why"]],
            hovertemplate="trial %{customdata[0]}: %{customdata[1]:.0f} s<br>%{customdata[2]}<extra>" + str(state) + "</extra>",
        )
    drawn.update_layout(barmode="overlay", bargap=0.25)
    drawn.update_xaxes(type="date")
    drawn.update_yaxes(categoryorder="array", categoryarray=[escaped(lane) for lane in lanes[::-1]])
    return drawn
