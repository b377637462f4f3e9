"""What all charts share: a style for each role of a trial, an empty figure with titled axes, and the escaping of texts."""

from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from dashboard.charts.palette import BLUE, GREEN, GREY, ORANGE, PINK, VERMILION

HEIGHT = 340
COLOR_SCALE = "Cividis"
NEUTRAL = GREY


@dataclass(frozen=True)
class TraceStyle:
    """How the trials of one role are drawn: `width` in pixels, `dash` and `symbol` by Plotly's names."""

    color: str
    width: float = 1.6
    opacity: float = 1.0
    dash: str = "solid"
    symbol: str = "circle"

    @property
    def line(self) -> dict[str, Any]:
        """The ``line`` of a Plotly trace in this style: colour, width and dash."""
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
"""Role of a trial (see `study_data.role_of`) → its style. Roles further down are drawn over those further up."""


def figure(y: str = "", x: str = "", height: int = HEIGHT) -> go.Figure:
    """Return an empty figure. `y` and `x` are the titles of the axes, as plain text; `height` is in pixels."""
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
    """Return `text` escaped, so that Plotly shows it as it is. Plotly interprets some HTML tags in titles, labels and hover texts."""
    whole = str(text).encode("utf-8", "replace").decode()
    return whole.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
