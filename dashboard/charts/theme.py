"""How figures look. Colours after Okabe and Ito (2008), told apart by the colour-blind and on light and dark."""

from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

HEIGHT = 340
COLORS = ("#2a7fbf", "#e69f00", "#12a37a", "#cc79a7", "#d55e00", "#56b4e9", "#8a939c", "#b79f00")
SCALE = "Cividis"
NEUTRAL = "#8a939c"


@dataclass(frozen=True)
class Look:
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


LOOKS = {
    "stopped": Look(NEUTRAL, 1.2, 0.45, symbol="x-thin-open"),
    "failed": Look("#d55e00", 1.6, 0.8, dash="dot", symbol="x"),
    "paused": Look("#cc79a7", 1.4, 0.8),
    "queued": Look(NEUTRAL, 1.2, 0.45),
    "finished": Look("#2a7fbf", 1.5, 0.75),
    "running": Look("#e69f00", 2.0),
    "default recipe": Look("#cc79a7", 2.2, dash="dash"),
    "best": Look("#12a37a", 3.2),
}


def figure(y: str = "", x: str = "", height: int = HEIGHT) -> go.Figure:
    """Return an empty figure with titled axes; titles are shown as they are."""
    empty = go.Figure()
    empty.update_layout(
        height=height,
        margin={"l": 8, "r": 8, "t": 36, "b": 8},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        hovermode="closest",
        yaxis={"title": {"text": escaped(y)}, "automargin": True},
        xaxis={"title": {"text": escaped(x)}, "automargin": True},
    )
    return empty


def escaped(text: object) -> str:
    """Return a text that Plotly shows as it is; it takes some HTML for markup."""
    whole = str(text).encode("utf-8", "replace").decode()
    return whole.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
