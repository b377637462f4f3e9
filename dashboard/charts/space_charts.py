"""Figures of the searched space, from the DataFrames of `space_analysis`: importance, and values by parameter."""

import math
from collections.abc import Sequence

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from dashboard.charts.theme import COLOR_SCALE, NEUTRAL, STYLES, escape_html, figure

COLUMNS, PANEL_HEIGHT = 3, 270
NOT_USED = "not used"
"""Label of trials to which a field does not apply."""
MOST_TICKS = 6
"""Greatest number of different values for which an axis has a tick at each value."""


def importance(frame: pd.DataFrame) -> go.Figure:
    """Return a figure of `space_analysis.importance`: a horizontal bar per parameter, the most important on top."""
    chart = figure(x="share of importance", height=90 + 26 * len(frame))
    chart.add_bar(
        x=frame["importance"],
        y=frame["parameter"].map(escape_html),
        orientation="h",
        marker={"color": STYLES["finished"].color},
        hovertemplate="%{y}: %{x:.1%}<extra></extra>",
    )
    chart.update_xaxes(tickformat=".0%", rangemode="tozero")
    chart.update_yaxes(autorange="reversed")
    return chart


def parallel(frame: pd.DataFrame, fields: Sequence[str], metric: str, mode: str, logarithmic: Sequence[str]) -> go.Figure:
    """Return parallel coordinates of `space_analysis.values_by_field`: a line per trial through its value of each of `fields`.

    The last axis, `metric`, is the trial's value, which also colours the line. `logarithmic`: fields whose axis is logarithmic. A trial
    that does not use a field passes below the range of that axis. Optuna's own plot leaves out such trials.
    """
    dimensions = [_axis(frame[name], name, name in logarithmic) for name in fields]
    dimensions.append({"label": escape_html(metric), "values": frame["value"]})
    line = {"color": frame["value"], "colorscale": COLOR_SCALE, "showscale": True, "reversescale": mode == "min"}
    chart = go.Figure(go.Parcoords(line=line, dimensions=dimensions, labelangle=-20))
    chart.update_layout(height=430, margin={"l": 70, "r": 40, "t": 90, "b": 24})
    return chart


def _axis(column: pd.Series, name: str, logarithmic: bool) -> dict[str, object]:
    """Return one axis, a dimension of Plotly's ``Parcoords``: numbers as they are or their logarithms, choices by position in sorted order.

    Missing values are below the lowest number, or are the first choice, and have the label `NOT_USED`.
    """
    label = escape_html(name.replace("_", " "))
    if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column) and column.notna().any():
        numbers = column.astype(float).map(math.log10) if logarithmic else column.astype(float)
        low, high = float(numbers.min()), float(numbers.max())
        step = (high - low) / 4 or 1.0
        marks = sorted(numbers.dropna().unique()) if numbers.nunique() <= MOST_TICKS else [low + step * place for place in range(5)]
        texts = [f"{10**mark if logarithmic else mark:.4g}" for mark in marks]
        under = low - step
        if column.isna().any():
            marks, texts = [under, *marks], [NOT_USED, *texts]
        return {"label": label, "values": numbers.fillna(under), "tickvals": marks, "ticktext": texts}
    choices = sorted({str(value) for value in column.dropna()})
    order = [*([NOT_USED] if column.isna().any() else []), *choices]
    places = column.map(lambda value: order.index(NOT_USED if pd.isna(value) else str(value)))
    return {"label": label, "values": places, "tickvals": list(range(len(order))), "ticktext": [escape_html(one) for one in order]}


def slices(frame: pd.DataFrame, fields: Sequence[str], metric: str, logarithmic: Sequence[str]) -> go.Figure:
    """Return a figure of `space_analysis.values_by_field`: a panel per field, with a marker per trial that uses it at its value.

    `metric` titles the vertical axes. `logarithmic`: fields whose axis is logarithmic.
    """
    down = max(1, math.ceil(len(fields) / COLUMNS))
    titles = [escape_html(name.replace("_", " ")) for name in fields]
    gap = 0.45 / max(1, down)
    chart = make_subplots(
        down, COLUMNS, subplot_titles=titles, horizontal_spacing=0.06, vertical_spacing=gap if down > 1 else 0, shared_yaxes=True
    )
    for place, name in enumerate(fields):
        _add_panel(chart, frame, name, metric, place, logarithmic=name in logarithmic)
    chart.update_layout(
        height=PANEL_HEIGHT * down + 40,
        margin={"l": 8, "r": 8, "t": 60, "b": 8},
        legend={"orientation": "h", "y": 1.0, "yanchor": "bottom", "yref": "container"},
    )
    return chart


def _add_panel(chart: go.Figure, frame: pd.DataFrame, name: str, metric: str, place: int, *, logarithmic: bool) -> None:
    """Add to `chart` the panel of the field `name`. `place` is its position, counted by rows from 0 at the top left."""
    row, col = place // COLUMNS + 1, place % COLUMNS + 1
    for state in ("stopped", "finished"):
        rows, style = frame[(frame["state"] == state) & frame[name].notna()], STYLES[state]
        line = {"width": 1.2, "color": style.color}
        chart.add_scatter(
            row=row,
            col=col,
            x=rows[name] if pd.api.types.is_numeric_dtype(frame[name]) else rows[name].map(escape_html),
            y=rows["value"],
            customdata=rows["trial"],
            mode="markers",
            name=state,
            showlegend=place == 0,
            legendgroup=state,
            marker={"color": style.color, "symbol": style.symbol, "size": 7, "opacity": style.opacity, "line": line},
            hovertemplate="trial %{customdata}: %{x}, %{y:.4g}<extra>" + state + "</extra>",
        )
    chart.update_xaxes(tickangle=25, tickvals=_ticks(frame[name]), row=row, col=col)
    if logarithmic:
        chart.update_xaxes(type="log", dtick=1, exponentformat="power", row=row, col=col)
    if col == 1:
        chart.update_yaxes(title={"text": escape_html(metric)}, row=row, col=col)


def _ticks(column: pd.Series) -> list[float] | None:
    """Return the ticks of an axis: the column's different values if these are at most `MOST_TICKS` numbers, else None for Plotly's own."""
    values = sorted(column.dropna().unique()) if pd.api.types.is_numeric_dtype(column) else []
    return values if 1 <= len(values) <= MOST_TICKS else None


def epochs(frame: pd.DataFrame, metric: str, *, default: float | None) -> go.Figure:
    """Return a figure of finished trials: value by planned epochs. `default`, the default recipe's value, is a horizontal line.

    `frame` is from `space_analysis.values_by_field`, with the field ``epochs``.
    """
    rows = frame[frame["state"] == "finished"]
    chart = figure(f"validation {metric}", "epochs")
    chart.add_scatter(
        x=rows["epochs"],
        y=rows["value"],
        customdata=rows["trial"],
        mode="markers",
        name="finished",
        marker={"color": STYLES["finished"].color, "size": 8, "opacity": 0.8},
        hovertemplate="trial %{customdata}: %{x} epochs, %{y:.4g}<extra></extra>",
    )
    if default is not None:
        chart.add_hline(y=default, line=STYLES["default recipe"].line, annotation_text="default recipe")
    return chart


def strength(frame: pd.DataFrame, metric: str, chosen: float) -> go.Figure:
    """Return a figure of `space_analysis.values_by_strength`: a marker per trial, and the median value at each strength as a line.

    A vertical line marks the `chosen` strength (0 to 1).
    """
    chart = figure(f"validation {metric}", "augmentation strength")
    chart.add_scatter(
        x=frame["augmentation_strength"],
        y=frame["value"],
        customdata=frame["trial"],
        mode="markers",
        name="a trial",
        marker={"color": STYLES["finished"].color, "size": 8, "opacity": 0.7},
        hovertemplate="trial %{customdata}: %{y:.4g} at %{x}<extra></extra>",
    )
    medians = frame.groupby("augmentation_strength")["value"].median()
    chart.add_scatter(x=medians.index, y=medians, mode="lines", name="median", line={"color": STYLES["best"].color, "width": 2.4})
    chart.add_vline(x=chosen, line={"color": NEUTRAL, "dash": "dot"})
    chart.update_xaxes(range=[-0.04, 1.04])
    return chart
