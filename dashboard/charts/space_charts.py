"""DataFrames → figures of the searched space: what matters, and where the good trials are."""

import math
from collections.abc import Sequence

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from dashboard.charts.theme import LOOKS, NEUTRAL, SCALE, escaped, figure

ACROSS, PANEL = 3, 270
MISSING, FEW = "not used", 6


def importance(frame: pd.DataFrame) -> go.Figure:
    """Draw `findings.importance`."""
    drawn = figure(x="share of importance", height=90 + 26 * len(frame))
    drawn.add_bar(
        x=frame["importance"],
        y=frame["parameter"].map(escaped),
        orientation="h",
        marker={"color": LOOKS["finished"].color},
        hovertemplate="%{y}: %{x:.1%}<extra></extra>",
    )
    drawn.update_xaxes(tickformat=".0%", rangemode="tozero")
    drawn.update_yaxes(autorange="reversed")
    return drawn


def parallel(frame: pd.DataFrame, fields: Sequence[str], metric: str, mode: str, logarithmic: Sequence[str]) -> go.Figure:
    """Draw `findings.values`: a line per trial through its value of each field; one that does not use a field passes beneath its range."""
    dimensions = [_axis(frame[name], name, name in logarithmic) for name in fields]
    dimensions.append({"label": escaped(metric), "values": frame["value"]})
    line = {"color": frame["value"], "colorscale": SCALE, "showscale": True, "reversescale": mode == "min"}
    drawn = go.Figure(go.Parcoords(line=line, dimensions=dimensions, labelangle=-20))
    drawn.update_layout(height=430, margin={"l": 70, "r": 40, "t": 90, "b": 24})
    return drawn


def _axis(column: pd.Series, name: str, logarithmic: bool) -> dict[str, object]:
    """Return one axis: numbers as they are or by their logarithm, anything else by its place among the choices."""
    label = escaped(name.replace("_", " "))
    if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column) and column.notna().any():
        numbers = column.astype(float).map(math.log10) if logarithmic else column.astype(float)
        low, high = float(numbers.min()), float(numbers.max())
        step = (high - low) / 4 or 1.0
        marks = sorted(numbers.dropna().unique()) if numbers.nunique() <= FEW else [low + step * place for place in range(5)]
        texts = [f"{10**mark if logarithmic else mark:.4g}" for mark in marks]
        under = low - step
        if column.isna().any():
            marks, texts = [under, *marks], [MISSING, *texts]
        return {"label": label, "values": numbers.fillna(under), "tickvals": marks, "ticktext": texts}
    choices = sorted({str(value) for value in column.dropna()})
    order = [*([MISSING] if column.isna().any() else []), *choices]
    places = column.map(lambda value: order.index(MISSING if pd.isna(value) else str(value)))
    return {"label": label, "values": places, "tickvals": list(range(len(order))), "ticktext": [escaped(one) for one in order]}


def slices(frame: pd.DataFrame, fields: Sequence[str], metric: str, logarithmic: Sequence[str]) -> go.Figure:
    """Draw `findings.values`: a panel per field, a mark per trial that uses it."""
    down = max(1, math.ceil(len(fields) / ACROSS))
    titles = [escaped(name.replace("_", " ")) for name in fields]
    gap = 0.45 / max(1, down)
    drawn = make_subplots(
        down, ACROSS, subplot_titles=titles, horizontal_spacing=0.06, vertical_spacing=gap if down > 1 else 0, shared_yaxes=True
    )
    for place, name in enumerate(fields):
        row, col = place // ACROSS + 1, place % ACROSS + 1
        for state in ("stopped", "finished"):
            rows, look = frame[(frame["state"] == state) & frame[name].notna()], LOOKS[state]
            choice = not pd.api.types.is_numeric_dtype(frame[name])
            drawn.add_scatter(
                row=row,
                col=col,
                x=rows[name].map(escaped) if choice else rows[name],
                y=rows["value"],
                customdata=rows["trial"],
                mode="markers",
                name=state,
                showlegend=place == 0,
                legendgroup=state,
                marker={
                    "color": look.color,
                    "symbol": look.symbol,
                    "size": 7,
                    "opacity": look.opacity,
                    "line": {"width": 1.2, "color": look.color},
                },
                hovertemplate="trial %{customdata}: %{x}, %{y:.4g}<extra>" + state + "</extra>",
            )
        drawn.update_xaxes(tickangle=25, tickvals=_few(frame[name]), row=row, col=col)
        if name in logarithmic:
            drawn.update_xaxes(type="log", dtick=1, exponentformat="power", row=row, col=col)
        if col == 1:
            drawn.update_yaxes(title={"text": escaped(metric)}, row=row, col=col)
    drawn.update_layout(
        height=PANEL * down + 40,
        margin={"l": 8, "r": 8, "t": 60, "b": 8},
        legend={"orientation": "h", "y": 1.0, "yanchor": "bottom", "yref": "container"},
    )
    return drawn


def _few(column: pd.Series) -> list[float] | None:
    """Return the values of a column that has a few only, to mark no others."""
    found = sorted(column.dropna().unique()) if pd.api.types.is_numeric_dtype(column) else []
    return found if 1 <= len(found) <= FEW else None


def epochs(frame: pd.DataFrame, metric: str, *, default: float | None) -> go.Figure:
    """Draw the value of finished trials by the length of their schedule: what longer training buys."""
    rows = frame[frame["state"] == "finished"]
    drawn = figure(f"validation {metric}", "epochs")
    drawn.add_scatter(
        x=rows["epochs"],
        y=rows["value"],
        customdata=rows["trial"],
        mode="markers",
        name="finished",
        marker={"color": LOOKS["finished"].color, "size": 8, "opacity": 0.8},
        hovertemplate="trial %{customdata}: %{x} epochs, %{y:.4g}<extra></extra>",
    )
    if default is not None:
        drawn.add_hline(y=default, line=LOOKS["default recipe"].line, annotation_text="default recipe")
    return drawn


def strength(frame: pd.DataFrame, metric: str, chosen: float) -> go.Figure:
    """Draw `findings.by_strength`: the value of finished trials by augmentation strength, their median, and the strength chosen."""
    drawn = figure(f"validation {metric}", "augmentation strength")
    drawn.add_scatter(
        x=frame["augmentation_strength"],
        y=frame["value"],
        customdata=frame["trial"],
        mode="markers",
        name="a trial",
        marker={"color": LOOKS["finished"].color, "size": 8, "opacity": 0.7},
        hovertemplate="trial %{customdata}: %{y:.4g} at %{x}<extra></extra>",
    )
    medians = frame.groupby("augmentation_strength")["value"].median()
    drawn.add_scatter(x=medians.index, y=medians, mode="lines", name="median", line={"color": LOOKS["best"].color, "width": 2.4})
    drawn.add_vline(x=chosen, line={"color": NEUTRAL, "dash": "dot"})
    drawn.update_xaxes(range=[-0.04, 1.04])
    return drawn
