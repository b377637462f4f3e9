"""A chart whose zoom outlives a refresh.

Streamlit draws a Plotly chart afresh whenever its data changes, `uirevision` or not (streamlit/streamlit#16052). So a dragged box is a
selection that comes to us, and we draw the chart at that range until the viewer asks for the whole again.
"""

from functools import partial

import plotly.graph_objects as go
import streamlit as st

HELP = "Drag a box in the chart to look closer; it stays so while the chart refreshes."
LOST_AT_REFRESH = ["zoom2d", "pan2d", "select2d", "zoomIn2d", "zoomOut2d", "autoScale2d", "resetScale2d"]


def chart(figure: go.Figure, key: str, alt: str) -> None:
    """Show a figure at the range that the viewer last dragged in it."""
    held = st.session_state.get(f"zoom-{key}")
    config = {"modeBarButtonsToRemove": LOST_AT_REFRESH}
    figure.update_layout(dragmode="select")
    if held:
        figure.update_xaxes(range=held["x"])
        figure.update_yaxes(range=held["y"])
    st.plotly_chart(figure, key=key, on_select=partial(_hold, key), selection_mode="box", config=config, alt=alt)
    if held:
        st.button("Show the whole chart", key=f"whole-{key}", on_click=partial(_release, key), type="tertiary")


def _hold(key: str) -> None:
    boxes = st.session_state[key].selection.box
    if boxes:
        st.session_state[f"zoom-{key}"] = {axis: sorted(boxes[0][axis]) for axis in ("x", "y")}


def _release(key: str) -> None:
    del st.session_state[f"zoom-{key}"]
