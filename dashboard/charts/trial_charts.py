"""DataFrames → figures of one trial: the curves of its metrics, and what its network makes of the validation images."""

import math

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from dashboard.charts.theme import COLORS, LOOKS, NEUTRAL, SCALE, escaped, figure

ACROSS = 3
PANEL = 210
MOST_NUMBERS = 15
"""Classes of a confusion matrix whose counts are written into it."""


def metrics(frame: pd.DataFrame) -> go.Figure:
    """Draw `portrait.metrics`: a small panel per metric, by epoch, the first one in the colour of the best."""
    names = list(frame["metric"].unique())
    down = max(1, math.ceil(len(names) / ACROSS))
    titles = [escaped(name.replace("_", " ")) for name in names]
    apart = 0.22 / (down - 1) if down > 1 else 0
    drawn = make_subplots(down, ACROSS, subplot_titles=titles, horizontal_spacing=0.07, vertical_spacing=apart)
    for place, name in enumerate(names):
        rows = frame[frame["metric"] == name]
        drawn.add_scatter(
            row=place // ACROSS + 1,
            col=place % ACROSS + 1,
            x=rows["epoch"],
            y=rows["value"],
            mode="lines+markers",
            line={"color": LOOKS["best"].color if place == 0 else LOOKS["finished"].color, "width": 2},
            hovertemplate="epoch %{x}: %{y:.4g}<extra>" + escaped(name) + "</extra>",
        )
    drawn.update_xaxes(title={"text": "epoch"}, row=down)
    drawn.update_layout(height=PANEL * down, showlegend=False, margin={"l": 8, "r": 8, "t": 36, "b": 8})
    return drawn


def confusion(frame: pd.DataFrame) -> go.Figure:
    """Draw `portrait.confusion`: a square per pair of classes, shaded by its share of the true class."""
    shares = frame.div(frame.sum(axis=1).replace(0, 1), axis=0)
    classes = [escaped(name) for name in frame.columns]
    drawn = figure("true class", "predicted class", height=max(300, 120 + 26 * len(classes)))
    drawn.add_heatmap(
        z=shares.to_numpy(),
        x=classes,
        y=classes,
        zmin=0,
        zmax=1,
        colorscale=SCALE,
        customdata=frame.to_numpy(),
        text=frame.where(frame > 0, "").to_numpy() if len(classes) <= MOST_NUMBERS else None,
        texttemplate="%{text}" if len(classes) <= MOST_NUMBERS else None,
        hovertemplate="%{y} taken for %{x}: %{customdata} images, %{z:.0%} of the class<extra></extra>",
        colorbar={"title": {"text": "share of<br>true class"}, "tickformat": ".0%", "thickness": 12},
        xgap=1,
        ygap=1,
    )
    drawn.update_yaxes(autorange="reversed", type="category")
    drawn.update_xaxes(type="category")
    return drawn


def confused(frame: pd.DataFrame) -> go.Figure:
    """Draw `portrait.confused`: the pairs of classes that are confused most often."""
    drawn = figure(x="validation images", height=100 + 22 * len(frame))
    drawn.add_bar(x=frame["images"], y=frame["taken for"].map(escaped), orientation="h", marker={"color": LOOKS["failed"].color})
    drawn.update_yaxes(autorange="reversed")
    return drawn


def reliability(frame: pd.DataFrame) -> go.Figure:
    """Draw `portrait.reliability`: how often predictions of some probability are right; on the diagonal they are as sure as right."""
    drawn = figure("right (%)", "predicted probability (%)")
    drawn.add_scatter(x=[0, 100], y=[0, 100], mode="lines", name="as sure as right", line={"color": NEUTRAL, "dash": "dash", "width": 1.5})
    drawn.add_scatter(
        x=frame["said"],
        y=frame["right"],
        customdata=frame["images"],
        mode="lines+markers",
        name="this trial",
        line={"color": LOOKS["finished"].color, "width": 2.4},
        marker={"size": 6 + 22 * (frame["images"] / frame["images"].max()) ** 0.5, "opacity": 0.8},
        hovertemplate="said %{x:.0f} %, right %{y:.0f} % of %{customdata}<extra></extra>",
    )
    drawn.update_xaxes(range=[0, 104])
    drawn.update_yaxes(range=[0, 104])
    return drawn


def precision(frame: pd.DataFrame) -> go.Figure:
    """Draw `portrait.precision`: each label's average precision."""
    drawn = figure(x="average precision", height=100 + 24 * len(frame))
    drawn.add_bar(
        x=frame["average precision"],
        y=frame["label"].map(escaped),
        customdata=frame["images"],
        orientation="h",
        marker={"color": LOOKS["finished"].color},
        hovertemplate="%{y}: %{x:.3f} on %{customdata} images<extra></extra>",
    )
    drawn.update_xaxes(range=[0, 1])
    drawn.update_yaxes(type="category")
    return drawn


def scatter(frame: pd.DataFrame, target: str) -> go.Figure:
    """Draw `portrait.scatter`: the predicted against the true value of each image."""
    drawn = figure(f"predicted {target}", f"true {target}")
    ends = [float(frame["truth"].min()), float(frame["truth"].max())]
    drawn.add_scatter(x=ends, y=ends, mode="lines", name="right", line={"color": NEUTRAL, "dash": "dash", "width": 1.5})
    drawn.add_scatter(
        x=frame["truth"],
        y=frame["prediction"],
        mode="markers",
        name="an image",
        marker={"color": COLORS[0], "opacity": 0.6, "size": 7},
        hovertemplate="true %{x:.4g}, predicted %{y:.4g}<extra></extra>",
    )
    return drawn
