"""Trials: every trial of a study in one table, to filter, sort, compare and download as CSV."""

import math
from typing import Any

import pandas as pd
import streamlit as st

from dashboard import layout, zoomable_chart
from dashboard.charts import study_charts
from dashboard.data import study_data, trial_table
from dashboard.markdown_text import escape
from dashboard.record_errors import show_errors
from search.record.records import STATES, StudyRecord

MOST_COMPARED = 8
PAGE_ROWS = 200
COLUMN_CONFIG = {
    "trial": st.column_config.NumberColumn("trial", pinned=True, width=70),
    "value": st.column_config.NumberColumn("value", format="%.4f", help="Validation metric of the last epoch."),
    "minutes": st.column_config.NumberColumn("minutes", format="%.2f"),
    "learning_rate": st.column_config.NumberColumn(format="%.3g"),
    "weight_decay": st.column_config.NumberColumn(format="%.3g"),
    "stage_lr_decay": st.column_config.NumberColumn(format="%.2g"),
    trial_table.REASON: st.column_config.TextColumn(width="large"),
}


def draw(record: StudyRecord) -> None:
    """Show filters, the table of the trials that satisfy them, its download as CSV, and the selected trials side by side."""
    table = trial_table.trials_table(record)
    shown = _filtered(record, table)
    columns, page = _columns(table), _page(record, shown)
    event: Any = st.dataframe(
        page[columns],
        hide_index=True,
        column_config=COLUMN_CONFIG,
        placeholder="–",
        on_select="rerun",
        selection_mode="multi-row",
        key=f"trials-{record.name}",
        alt="Trials",
    )
    st.download_button(
        "Download these rows as CSV", lambda: shown[columns].to_csv(index=False), f"{record.name}-trials.csv", "text/csv", on_click="ignore"
    )
    _comparison(record, page, event.selection.rows)


def _filtered(record: StudyRecord, table: pd.DataFrame) -> pd.DataFrame:
    states, text, fields = st.columns([2, 2, 3])
    present = [state for state in STATES if record.counts[state]]
    wanted = states.multiselect("State", present, key="state", bind="query-params", placeholder="any state")
    words = text.text_input("Text", key="text", bind="query-params", placeholder="in any column")
    searched = trial_table.searched_fields(record)
    by = fields.multiselect("Parameters to filter by", ["value", *searched], key="by", bind="query-params", placeholder="none")
    ranges, choices = {}, {}
    for name, place in zip(by, st.columns(len(by)) if by else (), strict=True):
        known = table[name].dropna()
        if known.empty:
            place.caption(escape(f"{name}: no trial has a value"))
        elif trial_table.is_numeric(table, name):
            ranges[name] = _range(place, name, known)
        else:
            options = sorted(known.astype(str).unique())
            choices[name] = place.multiselect(name, options, default=options, key=f"among-{name}")
    return trial_table.filtered(table, states=wanted, text=words, ranges=ranges, choices=choices)


def _range(place: Any, name: str, known: pd.Series) -> tuple[float, float]:
    low, high = place.columns(2)
    lowest, highest = float(known.min()), float(known.max())
    return (
        low.number_input(f"{name} from", value=lowest, key=f"from-{name}", format="%.6g"),
        high.number_input("to", value=highest, key=f"to-{name}", format="%.6g"),
    )


def _page(record: StudyRecord, shown: pd.DataFrame) -> pd.DataFrame:
    """Show the choice of sorting and page; return the at most `PAGE_ROWS` rows of `shown` on that page, which alone go to the browser.

    `shown` are the filtered rows of `trials_table`; they are sorted before they are divided into pages.
    """
    order, falling, page = st.columns([2, 2, 1], vertical_alignment="bottom")
    by = order.selectbox("Sort by", list(shown.columns), key="sort", bind="query-params")
    down = falling.toggle("largest first", key="down", bind="query-params")
    pages = max(1, math.ceil(len(shown) / PAGE_ROWS))
    number = int(page.number_input(f"Page of {pages:,}", 1, pages, 1, key=f"page-{record.name}-{pages}"))
    st.caption(f"{len(shown):,} trials of {len(record.trials):,} · select rows to compare trials")
    return trial_table.sorted_by(shown, by, descending=down).iloc[(number - 1) * PAGE_ROWS : number * PAGE_ROWS]


def _columns(table: pd.DataFrame) -> list[str]:
    with st.popover("Columns"):
        names = list(table.columns)
        chosen = st.multiselect("Columns", names, default=[name for name in names if name != "node"], key="columns")
    return chosen or ["trial"]


def _comparison(record: StudyRecord, page: pd.DataFrame, rows: list[int]) -> None:
    """Show the learning curves and configurations of at most `MOST_COMPARED` trials: the selected `rows` (positions) of `page`.

    They can also be chosen by number, because st.dataframe is a canvas without keyboard access.
    """
    selected = [int(page.iloc[row]["trial"]) for row in rows if row < len(page)]
    if selected:
        st.session_state[f"compared-{record.name}"] = selected[:MOST_COMPARED]
    key = f"compared-{record.name}"
    st.session_state.setdefault(key, [])
    known = {trial.number: trial for trial in record.trials}
    numbers = st.multiselect(
        "Trials to compare", list(known), key=key, max_selections=MOST_COMPARED, placeholder="select rows above, or choose trials here"
    )
    trials = [known[number] for number in numbers if number in known]
    if not trials:
        return
    for place, trial in zip(st.columns(MOST_COMPARED), trials, strict=False):
        with place:
            layout.screen_link("trial", f"trial {trial.number} →", record.name, trial=str(trial.number))
    left, right = st.columns(2)
    with left:
        lines = study_data.learning_curves(record, trials)
        if lines.empty:
            st.caption("None of these trials has reported an epoch.")
        else:
            zoomable_chart.show_chart(
                study_charts.overlaid(lines, record.metric), f"overlaid-{record.name}", "Learning curves of the selected trials"
            )
    with right, show_errors():
        differing = trial_table.configurations(record, trials, differing=len(trials) > 1)
        st.caption("The fields that differ." if len(trials) > 1 else "The configuration.")
        st.dataframe(differing, key=f"differing-{record.name}", alt="Configurations side by side")


if __name__ == "__main__":
    layout.show_study_screen(layout.SCREENS["trials"], draw)
