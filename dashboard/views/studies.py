"""Studies: a card each, the latest first; where there are none, how to start one."""

from datetime import datetime
from typing import Any

import pandas as pd
import streamlit as st

from dashboard import layout, records_cache
from dashboard.data import study_data
from search.formatting import duration
from trainables.errors import InjertoError

AT_FIRST = 20
"""Cards that are shown before one asks for more."""


def show() -> None:
    """Show the screen; its cards refresh by themselves."""
    st.title("Studies", anchor=False)
    st.fragment(_cards, run_every=records_cache.every())()


def _cards() -> None:
    with records_cache.kindly():
        names = records_cache.names()
        if not names:
            st.info("The storage holds no study yet. Start one in a terminal; it appears here by itself.")
            st.code("injerto search builtin:digits", language="bash")
            return
        shown = names if st.session_state.get("all-studies") else names[-AT_FIRST:]
        cards: list[dict[Any, Any]] = []
        for name in shown:
            try:
                cards = [*cards, *study_data.studies([records_cache.study(name)]).to_dict("records")]
            except (InjertoError, *records_cache.ODD) as error:
                st.caption(f"{records_cache.plain(name)}: {records_cache.plain(error)}")
        for card in cards[::-1]:
            _card(card)
        if len(shown) < len(names):
            st.button(f"Show all {len(names)} studies", on_click=lambda: st.session_state.update({"all-studies": True}))


def _card(card: dict[Any, Any]) -> None:
    with st.container(border=True, key=f"card-{card['study']}"):
        about, value, trials = st.columns([5, 3, 4], vertical_alignment="center")
        with about:
            st.page_link("views/study.py", label=f"**{records_cache.plain(card['study'])}** →", query_params={"study": card["study"]})
            st.markdown(layout.state_badge(card["state"]) + f" {records_cache.plain(card['why'])}")
            st.caption(records_cache.plain(card["dataset"]))
        value.metric(
            f"best validation {records_cache.plain(card['metric'])}",
            "–" if pd.isna(card["best"]) else f"{card['best']:.4g}",
            delta=f"{card['gain']:+.4g}" if card["gain"] > 0 else None,
            delta_description="over the default recipe" if card["gain"] > 0 else None,
            chart_data=card["sparkline"] if len(card["sparkline"]) > 1 else None,
        )
        with trials:
            done = layout.ended(card["counts"])
            st.markdown(layout.trial_badges(card["counts"]))
            st.progress(min(1.0, done / max(1, card["planned"])), f"{done:,} of {card['planned']:,} trials")
            st.caption(f"{age(card['began'])} · {duration(card['seconds'])} of search")


def age(began: datetime | pd.Timestamp | None) -> str:
    """Return how long ago a study began."""
    if began is None or pd.isna(began):
        return "not begun"
    return f"begun {duration((datetime.now() - began).total_seconds())} ago"


if __name__ == "__main__":
    show()
