"""Compare: several studies in one chart and side by side: best value so far, best configurations, spaces."""

import pandas as pd
import streamlit as st

from dashboard import layout, records_cache, zoomable_chart
from dashboard.charts import study_charts
from dashboard.data import study_data, trial_table
from dashboard.markdown_text import escape
from dashboard.record_errors import show_errors
from search.record.records import StudyRecord

MOST_STUDIES = 6


def draw(record: StudyRecord) -> None:
    """Show the study `record` beside up to `MOST_STUDIES` - 1 others, which the viewer chooses."""
    names = records_cache.names()[::-1]
    others = [name for name in names if name != record.name]
    if not others:
        st.info("There is only one study. Start another search to compare it here.")
        return
    label = f"{escape(record.name)} with"
    chosen = st.multiselect(label, others, key="with", bind="query-params", max_selections=MOST_STUDIES - 1, placeholder="choose studies")
    records = [record]
    for name in chosen:
        with show_errors():
            records.append(records_cache.study(name))
    if len(records) < 2:
        st.caption("Choose at least one other study.")
        return
    for part in (_curves, _headlines, _configurations, _spaces):
        with show_errors():
            part(records)


def _curves(records: list[StudyRecord]) -> None:
    st.subheader("Best so far", anchor=False, help=zoomable_chart.ZOOM_HELP)
    metrics = {record.metric for record in records}
    if len(metrics) > 1:
        st.caption(escape(f"These studies have different metrics ({', '.join(sorted(metrics))}), which cannot be compared in one chart."))
        return
    against = st.segmented_control("against", list(study_charts.AXES), default="trials", key="against", required=True, bind="query-params")
    frames = {record.name: study_data.best_so_far(record) for record in records}
    figure = study_charts.compared(frames, records[0].metric, against=against or "trials")
    zoomable_chart.show_chart(figure, f"compared-{'-'.join(frames)}-{against}", "Best value so far of several studies")


def _headlines(records: list[StudyRecord]) -> None:
    rows = {
        record.name: {
            "state": record.state,
            "metric": record.metric,
            "best value": layout.four_digits(record.best.value if record.best else None),
            "gain over the default recipe": layout.four_digits(study_data.gain(record), sign=True),
            "on the test images": layout.four_digits(record.test.get("winner", {}).get("test", {}).get(record.metric)),
            "trials": f"{study_data.ended_trials(record.counts):,} of {study_data.planned_trials(record):,}",
            "images": study_data.describe_dataset(record),
            "data": "" if record is records[0] else _data_difference(record, records[0]),
        }
        for record in records
    }
    st.dataframe(pd.DataFrame(rows), key="headlines", alt="Studies side by side")


def _data_difference(record: StudyRecord, other: StudyRecord) -> str:
    same = record.dataset.get("fingerprint") == other.dataset.get("fingerprint")
    return "the same" if same else "other images or splits"


def _configurations(records: list[StudyRecord]) -> None:
    st.subheader("Best configurations", anchor=False)
    only_differences = st.toggle("only differences", value=True, key="differing")
    best = {record.name: record.best.config for record in records if record.best is not None}
    st.dataframe(trial_table.side_by_side(best, differing=only_differences), key="configurations", alt="Best configurations side by side")


def _spaces(records: list[StudyRecord]) -> None:
    st.subheader("Spaces", anchor=False)
    differing = trial_table.side_by_side({record.name: record.space for record in records}, differing=True)
    if differing.empty:
        st.caption("These studies search the same space.")
    else:
        st.caption("Only parameters that differ are shown. A dash means that the study does not search the parameter.")
        st.dataframe(differing, key="spaces", alt="Spaces side by side")


if __name__ == "__main__":
    layout.show_study_screen(layout.SCREENS["compare"], draw)
