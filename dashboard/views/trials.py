"""Trials: every trial of a study in one table, to filter, to sort, to compare, to take away as CSV."""

import math
from typing import Any

import pandas as pd
import streamlit as st

from dashboard import layout, records_cache, zoomable_chart
from dashboard.charts import study_charts
from dashboard.data import study_data, trial_table
from search.record.records import STATES, StudyRecord

MOST_COMPARED, PAGE = 8, 200
NUMBERS = {
    "trial": st.column_config.NumberColumn("trial", pinned=True, width=70),
    "value": st.column_config.NumberColumn("value", format="%.4f", help="Validation metric of the last epoch."),
    "minutes": st.column_config.NumberColumn("minutes", format="%.2f"),
    "learning_rate": st.column_config.NumberColumn(format="%.3g"),
    "weight_decay": st.column_config.NumberColumn(format="%.3g"),
    "stage_lr_decay": st.column_config.NumberColumn(format="%.2g"),
    trial_table.REASON: st.column_config.TextColumn(width="large"),
}


def draw(record: StudyRecord) -> None:
    """Show the filters, the table, and the trials that were chosen beside each other."""
    whole = trial_table.trials(record)
    shown = _filtered(record, whole)
    columns, page = _columns(whole), _page(record, shown)
    event: Any = st.dataframe(
        page[columns],
        hide_index=True,
        column_config=NUMBERS,
        placeholder="–",
        on_select="rerun",
        selection_mode="multi-row",
        key=f"trials-{record.name}",
        alt="Trials",
    )
    st.download_button(
        "Download these as CSV", lambda: shown[columns].to_csv(index=False), f"{record.name}-trials.csv", "text/csv", on_click="ignore"
    )
    _chosen(record, page, event.selection.rows)


def _filtered(record: StudyRecord, whole: pd.DataFrame) -> pd.DataFrame:
    states, text, fields = st.columns([2, 2, 3])
    present = [state for state in STATES if record.counts[state]]
    wanted = states.multiselect("State", present, key="state", bind="query-params", placeholder="any state")
    words = text.text_input("Text", key="text", bind="query-params", placeholder="in any column")
    searched = trial_table.searched(record)
    by = fields.multiselect("Parameters to filter by", ["value", *searched], key="by", bind="query-params", placeholder="none")
    ranges, choices = {}, {}
    for name, place in zip(by, st.columns(len(by)) if by else (), strict=True):
        known = whole[name].dropna()
        if known.empty:
            place.caption(records_cache.plain(f"{name}: no trial has it"))
        elif trial_table.numeric(whole, name):
            ranges[name] = _range(place, name, known)
        else:
            options = sorted(known.astype(str).unique())
            choices[name] = place.multiselect(name, options, default=options, key=f"among-{name}")
    return trial_table.matching(whole, states=wanted, text=words, ranges=ranges, choices=choices)


def _range(place: Any, name: str, known: pd.Series) -> tuple[float, float]:
    low, high = place.columns(2)
    least, most = float(known.min()), float(known.max())
    return (
        low.number_input(f"{name} from", value=least, key=f"from-{name}", format="%.6g"),
        high.number_input("to", value=most, key=f"to-{name}", format="%.6g"),
    )


def _page(record: StudyRecord, shown: pd.DataFrame) -> pd.DataFrame:
    """Return the rows that the browser is sent, sorted over all pages."""
    order, falling, page = st.columns([2, 2, 1], vertical_alignment="bottom")
    by = order.selectbox("Sort by", list(shown.columns), key="sort", bind="query-params")
    down = falling.toggle("largest first", key="down", bind="query-params")
    pages = max(1, math.ceil(len(shown) / PAGE))
    number = int(page.number_input(f"Page of {pages:,}", 1, pages, 1, key=f"page-{record.name}-{pages}"))
    st.caption(f"{len(shown):,} trials of {len(record.trials):,} · select rows to compare trials")
    return trial_table.ordered(shown, by, descending=down).iloc[(number - 1) * PAGE : number * PAGE]


def _columns(whole: pd.DataFrame) -> list[str]:
    with st.popover("Columns"):
        names = list(whole.columns)
        chosen = st.multiselect("Columns", names, default=[name for name in names if name != "node"], key="columns")
    return chosen or ["trial"]


def _chosen(record: StudyRecord, page: pd.DataFrame, rows: list[int]) -> None:
    """Show the selected trials over each other; the table is a picture to a keyboard, so they can be named as well."""
    selected = [int(page.iloc[row]["trial"]) for row in rows if row < len(page)]
    if selected:
        st.session_state[f"compared-{record.name}"] = selected[:MOST_COMPARED]
    key = f"compared-{record.name}"
    st.session_state.setdefault(key, [])
    known = {trial.number: trial for trial in record.trials}
    numbers = st.multiselect(
        "Trials to compare", list(known), key=key, max_selections=MOST_COMPARED, placeholder="select rows above, or name trials here"
    )
    trials = [known[number] for number in numbers if number in known]
    if not trials:
        return
    for place, trial in zip(st.columns(MOST_COMPARED), trials, strict=False):
        with place:
            layout.link("trial", f"trial {trial.number} →", record.name, trial=str(trial.number))
    left, right = st.columns(2)
    with left:
        lines = study_data.curves(record, trials)
        if lines.empty:
            st.caption("None of them has reported an epoch.")
        else:
            zoomable_chart.chart(
                study_charts.overlaid(lines, record.metric), f"overlaid-{record.name}", "Learning curves of the chosen trials"
            )
    with right, records_cache.kindly():
        differing = trial_table.settings(record, trials, differing=len(trials) > 1)
        st.caption("What differs between them." if len(trials) > 1 else "Its configuration.")
        st.dataframe(differing, key=f"differing-{record.name}", alt="Configurations side by side")


if __name__ == "__main__":
    layout.of_study(layout.SCREENS["trials"], draw)
