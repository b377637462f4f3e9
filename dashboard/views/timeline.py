"""Timeline: which worker ran which trial at which time, and the nodes of the cluster."""

import time
from datetime import datetime

import streamlit as st

from dashboard import layout, zoomable_chart
from dashboard.charts import study_charts
from dashboard.data import study_data
from dashboard.record_errors import show_errors
from search.formatting import duration
from search.record.records import StudyRecord

MOST_PERIODS = 600
"""Greatest number of periods of work that are drawn: the latest."""
PERCENT = st.column_config.ProgressColumn(format="%.0f %%", min_value=0, max_value=100)
NODE_COLUMNS = {
    "CPUs": st.column_config.NumberColumn(format="%.0f"),
    "GPUs": st.column_config.NumberColumn(format="%.0f"),
    "memory": st.column_config.NumberColumn(format="%.0f GB"),
    "CPUs in use": PERCENT,
    "memory in use": PERCENT,
    "GPU memory in use": PERCENT,
}


def draw(record: StudyRecord) -> None:
    """Show a chart of the trials that each worker ran over time, and a table of the cluster's nodes."""
    with show_errors():
        _work(record)
    with show_errors():
        _nodes(record)


def _work(record: StudyRecord) -> None:
    st.subheader("Workers", anchor=False, help=zoomable_chart.ZOOM_HELP)
    spans = study_data.work_spans(record)
    if spans.empty:
        st.caption("No trial has reported its worker: none has saved an epoch, or an older version of injerto ran the search.")
        return
    latest = spans.sort_values("began").tail(MOST_PERIODS)
    zoomable_chart.show_chart(study_charts.timeline(latest), f"timeline-{record.name}", "Trials on workers over time")
    share = study_data.share_busy(spans)
    few = f" The latest {MOST_PERIODS} of {len(spans):,} periods are drawn." if len(latest) < len(spans) else ""
    idle = "" if share is None else f" were busy {share:.0%} of the time between their first and their last trial; gaps are idle time."
    st.caption(f"{spans['worker'].nunique()} workers (node and process){idle}{few}")


def _nodes(record: StudyRecord) -> None:
    st.subheader("Nodes", anchor=False)
    nodes = study_data.nodes(record)
    if nodes.empty:
        st.caption("The search has not reported its nodes.")
        return
    at = float(record.cluster["at"])
    ago, then = duration(max(0.0, time.time() - at)), datetime.fromtimestamp(at)
    st.caption(f"Reported {ago} ago." if record.state == "running" else f"Reported at {then:%Y-%m-%d %H:%M}, while the search was running.")
    st.dataframe(nodes.dropna(axis=1, how="all"), hide_index=True, column_config=NODE_COLUMNS, key=f"nodes-{record.name}", alt="Nodes")


if __name__ == "__main__":
    layout.show_study_screen(layout.SCREENS["timeline"], draw)
