"""Timeline: which worker was at which trial when, and the nodes of the cluster."""

import time
from datetime import datetime

import streamlit as st

from dashboard import layout, records_cache, zoomable_chart
from dashboard.charts import study_charts
from dashboard.data import study_data
from search.formatting import duration
from search.record.records import StudyRecord

MOST_BARS = 600
"""Stretches of work that are drawn: the latest."""
PERCENT = st.column_config.ProgressColumn(format="%.0f %%", min_value=0, max_value=100)
NODES = {
    "processors": st.column_config.NumberColumn(format="%.0f"),
    "GPUs": st.column_config.NumberColumn(format="%.0f"),
    "memory": st.column_config.NumberColumn(format="%.0f GB"),
    "processors in use": PERCENT,
    "memory in use": PERCENT,
    "GPU memory in use": PERCENT,
}


def draw(record: StudyRecord) -> None:
    """Show the work of each worker over time, then the nodes."""
    with records_cache.kindly():
        _work(record)
    with records_cache.kindly():
        _nodes(record)


def _work(record: StudyRecord) -> None:
    st.subheader("Workers", anchor=False, help=zoomable_chart.HELP)
    spans = study_data.spans(record)
    if spans.empty:
        st.caption("No trial has told who worked on it: none has saved an epoch, or an older version of injerto ran the search.")
        return
    latest = spans.sort_values("began").tail(MOST_BARS)
    zoomable_chart.chart(study_charts.timeline(latest), f"timeline-{record.name}", "Trials on workers over time")
    share = study_data.busy(spans)
    few = f" The latest {MOST_BARS} of {len(spans):,} stretches are drawn." if len(latest) < len(spans) else ""
    idle = "" if share is None else f" were at work {share:.0%} of the time between their first trial and their last; gaps were idle."
    st.caption(f"{spans['worker'].nunique()} workers (node and process){idle}{few}")


def _nodes(record: StudyRecord) -> None:
    st.subheader("Nodes", anchor=False)
    nodes = study_data.nodes(record)
    if nodes.empty:
        st.caption("The search has not told of its nodes.")
        return
    at = float(record.cluster["at"])
    ago, then = duration(max(0.0, time.time() - at)), datetime.fromtimestamp(at)
    st.caption(f"As the trials told {ago} ago." if record.state == "running" else f"As they were at {then:%Y-%m-%d %H:%M}, while it ran.")
    st.dataframe(nodes.dropna(axis=1, how="all"), hide_index=True, column_config=NODES, key=f"nodes-{record.name}", alt="Nodes")


if __name__ == "__main__":
    layout.of_study(layout.SCREENS["timeline"], draw)
