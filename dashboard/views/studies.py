"""Studies: one card per study, the latest first; for an empty storage, how to start a search."""

from datetime import datetime
from typing import Any

import pandas as pd
import streamlit as st

from dashboard import layout, records_cache
from dashboard.data import study_data
from dashboard.markdown_text import escape
from dashboard.record_errors import RECORD_ERRORS, show_errors
from search.formatting import duration
from trainables.errors import InjertoError

CARDS_AT_FIRST = 20
"""Number of cards shown, the latest studies, until the viewer asks for all."""


def show() -> None:
    """Show the title and the cards, which refresh every `refresh_seconds`."""
    st.title("Studies", anchor=False)
    st.fragment(_cards, run_every=records_cache.refresh_seconds())()


def _cards() -> None:
    with show_errors():
        names = records_cache.names()
        if not names:
            st.info("The storage has no study yet. Start one in a terminal; it appears here without a reload.")
            st.code("injerto search builtin:digits", language="bash")
            return
        shown = names if st.session_state.get("all-studies") else names[-CARDS_AT_FIRST:]
        cards: list[dict[Any, Any]] = []
        for name in shown:
            try:
                cards = [*cards, *study_data.study_cards([records_cache.study(name)]).to_dict("records")]
            except (InjertoError, *RECORD_ERRORS) as error:
                st.caption(f"{escape(name)}: {escape(error)}")
        for card in cards[::-1]:
            _card(card)
        if len(shown) < len(names):
            st.button(f"Show all {len(names)} studies", on_click=lambda: st.session_state.update({"all-studies": True}))


def _card(card: dict[Any, Any]) -> None:
    with st.container(border=True, key=f"card-{card['study']}"):
        about, value, trials = st.columns([5, 3, 4], vertical_alignment="center")
        with about:
            st.page_link("views/study.py", label=f"**{escape(card['study'])}** →", query_params={"study": card["study"]})
            st.markdown(layout.state_badge(card["state"]) + f" {escape(card['why'])}")
            st.caption(escape(card["dataset"]))
        value.metric(
            f"best validation {escape(card['metric'])}",
            "–" if pd.isna(card["best"]) else f"{card['best']:.4g}",
            delta=f"{card['gain']:+.4g}" if card["gain"] > 0 else None,
            delta_description="over the default recipe" if card["gain"] > 0 else None,
            chart_data=card["sparkline"] if len(card["sparkline"]) > 1 else None,
        )
        with trials:
            done = study_data.ended_trials(card["counts"])
            st.markdown(layout.trial_badges(card["counts"]))
            st.progress(min(1.0, done / max(1, card["planned"])), f"{done:,} of {card['planned']:,} trials")
            st.caption(f"{age(card['began'])} · {duration(card['seconds'])} of search")


def age(began: datetime | pd.Timestamp | None) -> str:
    """Return how long ago a study began (local time), such as "started 5 min ago"; "not started" for None or NaT."""
    if began is None or pd.isna(began):
        return "not started"
    return f"started {duration((datetime.now() - began).total_seconds())} ago"


if __name__ == "__main__":
    show()
