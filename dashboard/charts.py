"""DataFrames → Plotly figures. Colours after Okabe and Ito (2008), told apart by the colour-blind and on light and dark."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
import plotly.graph_objects as go

HEIGHT = 340


@dataclass(frozen=True)
class Look:
    """How the trials of one role are drawn."""

    color: str
    width: float = 1.6
    opacity: float = 1.0
    dash: str = "solid"
    symbol: str = "circle"


LOOKS = {
    "stopped": Look("#8a939c", 1.2, 0.45, symbol="x-thin-open"),
    "failed": Look("#d55e00", 1.6, 0.8, dash="dot", symbol="x"),
    "paused": Look("#cc79a7", 1.4, 0.8),
    "queued": Look("#8a939c", 1.2, 0.45),
    "finished": Look("#2a7fbf", 1.5, 0.75),
    "running": Look("#e69f00", 2.0),
    "default recipe": Look("#cc79a7", 2.2, dash="dash"),
    "best": Look("#12a37a", 3.2),
}


def best_so_far(frame: pd.DataFrame, metric: str, *, default: float | None) -> go.Figure:
    """Draw `frames.best_so_far`: each ended trial as a mark, the best until then as a stair, the default recipe as a line."""
    figure = _figure(f"validation {metric}")
    scale, unit = (60.0, "hours") if frame["minutes"].max() > 180 else (1.0, "minutes")
    for state, rows in frame.groupby("state", sort=True):
        look = LOOKS[str(state)]
        figure.add_scatter(
            x=rows["minutes"] / scale,
            y=rows["value"],
            customdata=rows[["trial"]],
            name=str(state),
            mode="markers",
            marker={"color": look.color, "size": 8, "symbol": look.symbol, "line": {"width": 1.8, "color": look.color}},
            opacity=look.opacity,
            hovertemplate="trial %{customdata[0]}: %{y:.4g}<extra>" + str(state) + "</extra>",
        )
    best = frame.dropna(subset=["best"])
    figure.add_scatter(
        x=best["minutes"] / scale,
        y=best["best"],
        name="best so far",
        mode="lines",
        line={"color": LOOKS["best"].color, "width": 3, "shape": "hv"},
        hovertemplate="best so far: %{y:.4g}<extra></extra>",
    )
    if default is not None and len(frame):
        look = LOOKS["default recipe"]
        figure.add_scatter(
            x=[0, frame["minutes"].max() / scale],
            y=[default, default],
            name="default recipe",
            mode="lines",
            line={"color": look.color, "width": look.width, "dash": look.dash},
            hovertemplate="default recipe: %{y:.4g}<extra></extra>",
        )
    figure.update_xaxes(title=f"{unit} since the first trial began", rangemode="tozero")
    return figure


def curves(frame: pd.DataFrame, metric: str) -> go.Figure:
    """Draw `frames.curves`: a line per trial over its own progress, the roles in the order of `LOOKS`, the best on top."""
    figure = _figure(f"validation {metric}")
    for role, look in LOOKS.items():
        rows = frame[frame["role"] == role]
        if rows.empty:
            continue
        joined = _with_gaps(rows)
        figure.add_scatter(
            x=joined["progress"],
            y=joined["value"],
            customdata=joined[["trial"]],
            name=role,
            mode="lines+markers",
            line={"color": look.color, "width": look.width, "dash": look.dash},
            marker={"size": look.width + 3},
            opacity=look.opacity,
            hovertemplate="trial %{customdata[0]:d} at %{x:.0f} %: %{y:.4g}<extra>" + role + "</extra>",
        )
    figure.update_xaxes(title="progress of the trial (% of its epochs)", range=[0, 102])
    return figure


def _with_gaps(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the trials one after another with an empty row after each, so that one trace draws them as separate lines."""
    pieces: Sequence[pd.DataFrame] = [
        piece
        for trial, rows in rows.groupby("trial")
        for piece in (rows, pd.DataFrame({"trial": [trial], "progress": [None], "value": [None]}))
    ]
    return pd.DataFrame({name: [value for piece in pieces for value in piece[name]] for name in ("trial", "progress", "value")})


def losses(frame: pd.DataFrame) -> go.Figure:
    """Draw `frames.losses`: training and validation loss by epoch."""
    figure = _figure("loss")
    for split, role in (("training", "finished"), ("validation", "best")):
        rows = frame[frame["split"] == split]
        figure.add_scatter(
            x=rows["epoch"],
            y=rows["loss"],
            name=split,
            mode="lines+markers",
            line={"color": LOOKS[role].color, "width": 2.4},
            hovertemplate="epoch %{x}: %{y:.4g}<extra>" + split + "</extra>",
        )
    figure.update_xaxes(title="epoch", dtick=1 if frame["epoch"].max() <= 12 else None)
    return figure


def _figure(y: str) -> go.Figure:
    figure = go.Figure()
    figure.update_layout(
        height=HEIGHT,
        margin={"l": 8, "r": 8, "t": 36, "b": 8},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        hovermode="closest",
        yaxis={"title": y.replace("<", "&lt;")},
    )
    return figure
