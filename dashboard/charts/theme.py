"""The style of all charts: one style per role of a trial, an empty figure with titled axes, and texts without markup."""

from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from dashboard.charts.palette import BLUE, GREEN, GREY, ORANGE, PINK, VERMILION

HEIGHT = 340
COLOR_SCALE = "Cividis"
NEUTRAL = GREY


@dataclass(frozen=True)
class TraceStyle:
    """How the trials of one role are drawn."""

    color: str
    width: float = 1.6
    opacity: float = 1.0
    dash: str = "solid"
    symbol: str = "circle"

    @property
    def line(self) -> dict[str, Any]:
        """The line in Plotly's terms."""
        return {"color": self.color, "width": self.width, "dash": self.dash}


STYLES = {
    "stopped": TraceStyle(NEUTRAL, 1.2, 0.45, symbol="x-thin-open"),
    "failed": TraceStyle(VERMILION, 1.6, 0.8, dash="dot", symbol="x"),
    "paused": TraceStyle(PINK, 1.4, 0.8),
    "queued": TraceStyle(NEUTRAL, 1.2, 0.45),
    "finished": TraceStyle(BLUE, 1.5, 0.75),
    "running": TraceStyle(ORANGE, 2.0),
    "default recipe": TraceStyle(PINK, 2.2, dash="dash"),
    "best": TraceStyle(GREEN, 3.2),
}
"""Role of a trial → its style. Roles further down are drawn over those further up."""


def figure(y: str = "", x: str = "", height: int = HEIGHT) -> go.Figure:
    """Return an empty figure with titled axes; markup in the titles is escaped. `height` is in pixels."""
    empty = go.Figure()
    empty.update_layout(
        height=height,
        margin={"l": 8, "r": 8, "t": 36, "b": 8},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        hovermode="closest",
        yaxis={"title": {"text": escape_html(y)}, "automargin": True},
        xaxis={"title": {"text": escape_html(x)}, "automargin": True},
    )
    return empty


def escape_html(text: object) -> str:
    """Return a text that Plotly shows as it is: Plotly interprets some HTML tags in titles, labels and hover texts."""
    whole = str(text).encode("utf-8", "replace").decode()
    return whole.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
