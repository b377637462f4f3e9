"""Shows a Plotly chart that keeps its zoom when it refreshes.

Streamlit replaces a Plotly chart whenever its data changes and so resets its zoom, even with `uirevision` (streamlit/streamlit#16052).
Therefore dragging selects a box, Streamlit sends the box to the script, and the script draws the chart at that range until the viewer
resets it.
"""

from functools import partial

import plotly.graph_objects as go
import streamlit as st

ZOOM_HELP = "Drag a box in the chart to zoom in. The zoom stays when the chart refreshes."
REMOVED_TOOLS = ["zoom2d", "pan2d", "select2d", "zoomIn2d", "zoomOut2d", "autoScale2d", "resetScale2d"]
"""Plotly's own zoom tools, whose effect a refresh would undo."""


def show_chart(figure: go.Figure, key: str, alt: str) -> None:
    """Show a figure at the range that the viewer last selected in it, with a button that resets the range. Changes the figure's layout.

    `key` identifies the chart in the viewer's session, which stores the range. `alt` is the text for screen readers.
    """
    zoom = st.session_state.get(f"zoom-{key}")
    config = {"modeBarButtonsToRemove": REMOVED_TOOLS}
    figure.update_layout(dragmode="select")
    if zoom:
        figure.update_xaxes(range=zoom["x"])
        figure.update_yaxes(range=zoom["y"])
    st.plotly_chart(figure, key=key, on_select=partial(_store_zoom, key), selection_mode="box", config=config, alt=alt)
    if zoom:
        st.button("Reset the zoom", key=f"reset-{key}", on_click=partial(_reset_zoom, key), type="tertiary")


def _store_zoom(key: str) -> None:
    boxes = st.session_state[key].selection.box
    if boxes:
        st.session_state[f"zoom-{key}"] = {axis: sorted(boxes[0][axis]) for axis in ("x", "y")}


def _reset_zoom(key: str) -> None:
    del st.session_state[f"zoom-{key}"]
