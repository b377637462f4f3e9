"""Studies: a card each, the latest first; where there are none, how to start one."""

from datetime import datetime
from typing import Any

import pandas as pd
import streamlit as st

from dashboard import frames, reading
from trainables.errors import InjertoError

COLORS = {"finished": "green", "running": "orange", "interrupted": "violet", "failed": "red"}
SHADES = {"finished": "blue", "stopped": "gray", "failed": "red", "running": "orange", "queued": "gray", "paused": "violet"}


def show() -> None:
    """Show the screen; its cards refresh by themselves."""
    st.title("Studies", anchor=False)
    _cards()


@st.fragment(run_every=reading.LIVE)
def _cards() -> None:
    with reading.kindly():
        names = reading.names()
        if not names:
            st.info("The storage holds no study yet. Start one in a terminal; it appears here by itself.")
            st.code("injerto search builtin:digits", language="bash")
            return
        records = []
        for name in names:
            try:
                records.append(reading.study(name))
            except InjertoError as error:
                st.caption(f"{reading.plain(name)}: {reading.plain(error)}")
        for card in frames.studies(records).to_dict("records"):
            _card(card)


def _card(card: dict[Any, Any]) -> None:
    with st.container(border=True, key=f"card-{card['study']}"):
        about, value, trials = st.columns([5, 3, 4], vertical_alignment="center")
        with about:
            st.page_link("views/study.py", label=f"**{reading.plain(card['study'])}** →", query_params={"study": card["study"]})
            st.markdown(state_badge(card["state"]) + f" {reading.plain(card['why'])}")
            st.caption(reading.plain(card["dataset"]))
        value.metric(
            f"best validation {reading.plain(card['metric'])}",
            "–" if pd.isna(card["best"]) else f"{card['best']:.4g}",
            delta=f"{card['gain']:+.4g}" if card["gain"] > 0 else None,
            delta_description="over the default recipe",
            chart_data=card["sparkline"] if len(card["sparkline"]) > 1 else None,
        )
        with trials:
            st.markdown(trial_badges(card["counts"]))
            st.progress(min(1.0, ended(card["counts"]) / max(1, card["planned"])), f"{ended(card['counts'])} of {card['planned']} trials")
            st.caption(f"{age(card['began'])} · {frames.duration(card['seconds'])} of search")


def ended(counts: dict[str, int]) -> int:
    """Return how many trials are over."""
    return counts["finished"] + counts["stopped"] + counts["failed"]


def state_badge(state: str) -> str:
    """Return a study's state as Markdown."""
    return f":{COLORS.get(state, 'gray')}-badge[{reading.plain(state)}]"


def trial_badges(counts: dict[str, int]) -> str:
    """Return the trials by state as Markdown, without the states that nobody is in."""
    return " ".join(f":{SHADES[state]}-badge[{count} {state}]" for state, count in counts.items() if count) or "no trials yet"


def age(began: datetime | pd.Timestamp | None) -> str:
    """Return how long ago a study began."""
    if began is None or pd.isna(began):
        return "not begun"
    return f"begun {frames.duration((datetime.now() - began).total_seconds())} ago"


if __name__ == "__main__":
    show()
