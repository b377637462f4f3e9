"""Compare: several studies over each other: how fast they got where, their best configurations, their spaces."""

import pandas as pd
import streamlit as st

from dashboard import layout, records_cache, zoomable_chart
from dashboard.charts import study_charts
from dashboard.data import study_data, trial_table
from search.record.records import StudyRecord

MOST = 6


def draw(record: StudyRecord) -> None:
    """Show the study that the address names beside others."""
    names = records_cache.names()[::-1]
    others = [name for name in names if name != record.name]
    if not others:
        st.info("There is one study only; start another search, and compare it here.")
        return
    words = f"{records_cache.plain(record.name)} with"
    chosen = st.multiselect(words, others, key="with", bind="query-params", max_selections=MOST - 1, placeholder="choose studies")
    records = [record]
    for name in chosen:
        with records_cache.kindly():
            records.append(records_cache.study(name))
    if len(records) < 2:
        st.caption("Choose at least one other study.")
        return
    for part in (_curves, _headlines, _configurations, _spaces):
        with records_cache.kindly():
            part(records)


def _curves(records: list[StudyRecord]) -> None:
    st.subheader("Best so far", anchor=False, help=zoomable_chart.HELP)
    metrics = {record.metric for record in records}
    if len(metrics) > 1:
        st.caption(records_cache.plain(f"They go by different metrics ({', '.join(sorted(metrics))}), which one chart cannot compare."))
        return
    against = st.segmented_control("against", list(study_charts.AXES), default="trials", key="against", required=True, bind="query-params")
    found = {record.name: study_data.best_so_far(record) for record in records}
    figure = study_charts.compared(found, records[0].metric, against=against or "trials")
    zoomable_chart.chart(figure, f"compared-{'-'.join(found)}-{against}", "Best value so far of several studies")


def _headlines(records: list[StudyRecord]) -> None:
    rows = {
        record.name: {
            "state": record.state,
            "metric": record.metric,
            "best value": layout.number(record.best.value if record.best else None),
            "gain over the default recipe": layout.number(study_data.gain(record), sign=True),
            "on the test images": layout.number(record.test.get("winner", {}).get("test", {}).get(record.metric)),
            "trials": f"{layout.ended(record.counts):,} of {study_data.planned(record):,}",
            "images": study_data.in_a_line(record),
            "data": ""
            if record is records[0]
            else "the same"
            if record.dataset.get("fingerprint") == records[0].dataset.get("fingerprint")
            else "other images or splits",
        }
        for record in records
    }
    st.dataframe(pd.DataFrame(rows), key="headlines", alt="Studies side by side")


def _configurations(records: list[StudyRecord]) -> None:
    st.subheader("Their best configurations", anchor=False)
    only = st.toggle("only what differs", value=True, key="differing")
    best = {record.name: record.best.config for record in records if record.best is not None}
    st.dataframe(trial_table.side_by_side(best, differing=only), key="configurations", alt="Best configurations side by side")


def _spaces(records: list[StudyRecord]) -> None:
    st.subheader("Their spaces", anchor=False)
    differing = trial_table.side_by_side({record.name: record.space for record in records}, differing=True)
    if differing.empty:
        st.caption("They search the same space.")
    else:
        st.caption("Where they differ; a dash is a parameter that is not searched.")
        st.dataframe(differing, key="spaces", alt="Spaces side by side")


if __name__ == "__main__":
    layout.of_study(layout.SCREENS["compare"], draw)
