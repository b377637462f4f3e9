"""Figures of one trial, from the DataFrames of `trial_data`: its metrics by epoch, and its predictions on the validation images."""

import math

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from dashboard.charts.palette import BLUE
from dashboard.charts.theme import COLOR_SCALE, NEUTRAL, STYLES, escape_html, figure

COLUMNS = 3
PANEL_HEIGHT = 210
MOST_NUMBERED_CLASSES = 15
"""Greatest number of classes for which a confusion matrix shows its counts as numbers."""


def metrics(frame: pd.DataFrame) -> go.Figure:
    """Return a figure of `trial_data.metrics`: a panel per metric, by epoch. The first metric, the objective, has the colour of "best"."""
    names = list(frame["metric"].unique())
    down = max(1, math.ceil(len(names) / COLUMNS))
    titles = [escape_html(name.replace("_", " ")) for name in names]
    apart = 0.22 / (down - 1) if down > 1 else 0
    chart = make_subplots(down, COLUMNS, subplot_titles=titles, horizontal_spacing=0.07, vertical_spacing=apart)
    for place, name in enumerate(names):
        rows = frame[frame["metric"] == name]
        chart.add_scatter(
            row=place // COLUMNS + 1,
            col=place % COLUMNS + 1,
            x=rows["epoch"],
            y=rows["value"],
            mode="lines+markers",
            line={"color": STYLES["best"].color if place == 0 else STYLES["finished"].color, "width": 2},
            hovertemplate="epoch %{x}: %{y:.4g}<extra>" + escape_html(name) + "</extra>",
        )
    chart.update_xaxes(title={"text": "epoch"}, row=down)
    chart.update_layout(height=PANEL_HEIGHT * down, showlegend=False, margin={"l": 8, "r": 8, "t": 36, "b": 8})
    return chart


def confusion(frame: pd.DataFrame) -> go.Figure:
    """Return a heatmap of `trial_data.confusion`: a cell per pair of classes, shaded by its share of the images of the true class."""
    shares = frame.div(frame.sum(axis=1).replace(0, 1), axis=0)
    classes = [escape_html(name) for name in frame.columns]
    chart = figure("true class", "predicted class", height=max(300, 120 + 26 * len(classes)))
    chart.add_heatmap(
        z=shares.to_numpy(),
        x=classes,
        y=classes,
        zmin=0,
        zmax=1,
        colorscale=COLOR_SCALE,
        customdata=frame.to_numpy(),
        text=frame.where(frame > 0, "").to_numpy() if len(classes) <= MOST_NUMBERED_CLASSES else None,
        texttemplate="%{text}" if len(classes) <= MOST_NUMBERED_CLASSES else None,
        hovertemplate="%{y} predicted as %{x}: %{customdata} images, %{z:.0%} of the class<extra></extra>",
        colorbar={"title": {"text": "share of<br>true class"}, "tickformat": ".0%", "thickness": 12},
        xgap=1,
        ygap=1,
    )
    chart.update_yaxes(autorange="reversed", type="category")
    chart.update_xaxes(type="category")
    return chart


def confused(frame: pd.DataFrame) -> go.Figure:
    """Return a figure of `trial_data.confused`: a horizontal bar per pair of classes, as long as its number of images."""
    chart = figure(x="validation images", height=100 + 22 * len(frame))
    chart.add_bar(
        x=frame["images"], y=frame["true → predicted"].map(escape_html), orientation="h", marker={"color": STYLES["failed"].color}
    )
    chart.update_yaxes(autorange="reversed")
    return chart


def reliability(frame: pd.DataFrame) -> go.Figure:
    """Return a figure of `trial_data.reliability`: the share of correct predictions by predicted probability, both in %.

    On the dashed diagonal they are equal.
    """
    chart = figure("correct (%)", "predicted probability (%)")
    chart.add_scatter(
        x=[0, 100], y=[0, 100], mode="lines", name="perfectly calibrated", line={"color": NEUTRAL, "dash": "dash", "width": 1.5}
    )
    chart.add_scatter(
        x=frame["predicted"],
        y=frame["correct"],
        customdata=frame["images"],
        mode="lines+markers",
        name="this trial",
        line={"color": STYLES["finished"].color, "width": 2.4},
        marker={"size": 6 + 22 * (frame["images"] / frame["images"].max()) ** 0.5, "opacity": 0.8},
        hovertemplate="predicted %{x:.0f} %, correct %{y:.0f} % of %{customdata} images<extra></extra>",
    )
    chart.update_xaxes(range=[0, 104])
    chart.update_yaxes(range=[0, 104])
    return chart


def precision(frame: pd.DataFrame) -> go.Figure:
    """Return a figure of `trial_data.precision`: a horizontal bar per label, as long as its average precision."""
    chart = figure(x="average precision", height=100 + 24 * len(frame))
    chart.add_bar(
        x=frame["average precision"],
        y=frame["label"].map(escape_html),
        customdata=frame["images"],
        orientation="h",
        marker={"color": STYLES["finished"].color},
        hovertemplate="%{y}: %{x:.3f} on %{customdata} images<extra></extra>",
    )
    chart.update_xaxes(range=[0, 1])
    chart.update_yaxes(type="category")
    return chart


def scatter(frame: pd.DataFrame, target: str) -> go.Figure:
    """Return a figure of `trial_data.scatter`: a marker per image, its predicted over its true value, and the line where they are equal.

    `target` is the name of the predicted quantity, for the titles of the axes.
    """
    chart = figure(f"predicted {target}", f"true {target}")
    ends = [float(frame["truth"].min()), float(frame["truth"].max())]
    chart.add_scatter(x=ends, y=ends, mode="lines", name="correct", line={"color": NEUTRAL, "dash": "dash", "width": 1.5})
    chart.add_scatter(
        x=frame["truth"],
        y=frame["prediction"],
        mode="markers",
        name="an image",
        marker={"color": BLUE, "opacity": 0.6, "size": 7},
        hovertemplate="true %{x:.4g}, predicted %{y:.4g}<extra></extra>",
    )
    return chart
