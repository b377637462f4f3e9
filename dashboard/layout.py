"""What all screens of a study share: which study, its refresh while it runs, links from one screen to another."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import streamlit as st

from dashboard import records_cache
from search.record.records import StudyRecord

VIEWS = Path(__file__).with_name("views")
SCREENS = {
    "study": "Study",
    "trials": "Trials",
    "trial": "Trial",
    "space": "Space",
    "augmentation": "Augmentation",
    "timeline": "Timeline",
    "compare": "Compare",
    "export": "Export",
}
"""Screen of a study → its title; each is a file in `views` and an address of its own."""
COLORS = {"finished": "green", "running": "orange", "interrupted": "violet", "failed": "red"}
SHADES = {"finished": "blue", "stopped": "gray", "failed": "red", "running": "orange", "queued": "gray", "paused": "violet"}


def of_study(title: str, draw: Callable[[StudyRecord], None], *, live: bool = True) -> None:
    """Show a screen of the study that the address names, the latest by default; again and again while its search runs."""
    with records_cache.kindly():
        record = records_cache.study(st.query_params.get("study"))
        if st.query_params.get("study") != record.name:
            st.query_params["study"] = record.name
        going = live and record.state == "running"
        st.fragment(_panel, run_every=records_cache.every() if going else None)(title, record.name, draw, going)
        return
    st.page_link("views/studies.py", label="All studies")


def _panel(title: str, name: str, draw: Callable[[StudyRecord], None], going: bool) -> None:
    with records_cache.kindly():
        record = records_cache.study(name)
        if going and record.state != "running":
            st.rerun()
        heading(record, title)
        draw(record)


def heading(record: StudyRecord, title: str) -> None:
    """Show which study this is, and how it stands."""
    st.title(records_cache.plain(record.name) if title == SCREENS["study"] else title, anchor=False)
    words = f" {records_cache.plain(record.name)}" if title != SCREENS["study"] else ""
    why = f" {records_cache.plain(record.why)}" if record.why else ""
    st.markdown(f"{state_badge(record.state)}{words}{' ·' if words and why else ''}{why}")


def link(screen: str, label: str, study: str, **more: str) -> None:
    """Show a link to a screen of a study; the label is shown as it is."""
    st.page_link(f"views/{screen}.py", label=records_cache.plain(label), query_params={"study": study, **more})


def state_badge(state: str) -> str:
    """Return a study's state as Markdown."""
    return f":{COLORS.get(state, 'gray')}-badge[{records_cache.plain(state)}]"


def trial_badge(state: str, words: str = "") -> str:
    """Return a trial's state as Markdown, or other words in its colour."""
    return f":{SHADES.get(state, 'gray')}-badge[{records_cache.plain(words or state)}]"


def trial_badges(counts: dict[str, int]) -> str:
    """Return the trials by state as Markdown, without the states that nobody is in."""
    return " ".join(trial_badge(state, f"{count:,} {state}") for state, count in counts.items() if count) or "no trials yet"


def ended(counts: dict[str, int]) -> int:
    """Return how many trials are over."""
    return counts["finished"] + counts["stopped"] + counts["failed"]


@dataclass(frozen=True)
class Tile:
    """A figure with its name, what stands beneath it, and what it means; all but the name are Markdown."""

    label: str
    value: str
    beneath: str | None = None
    help: str | None = None


def tiles(shown: Iterable[Tile]) -> None:
    """Show figures in a row that breaks where the screen is narrow."""
    with st.container(horizontal=True):
        for tile in shown:
            st.metric(
                records_cache.plain(tile.label),
                tile.value,
                tile.beneath,
                help=tile.help,
                delta_color="off",
                delta_arrow="off",
                border=True,
                width="content",
                height="stretch",
            )


def number(value: float | None, *, sign: bool = False) -> str:
    """Return a value in four digits; a dash for none."""
    return "–" if value is None else f"{value:+.4g}" if sign else f"{value:.4g}"
