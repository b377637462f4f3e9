"""What all screens share: the study that the URL names, its heading, the refresh while it runs, links between screens, badges, tiles."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import streamlit as st

from dashboard import records_cache
from dashboard.charts.palette import STUDY_BADGES, TRIAL_BADGES
from dashboard.markdown_text import escape
from dashboard.record_errors import show_errors
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
"""Name of a screen of a study → its title. The name is also that of its file in `views` and its URL path."""


def show_study_screen(title: str, draw: Callable[[StudyRecord], None], *, live: bool = True) -> None:
    """Show a screen of the study that the URL parameter ``study`` names, or of the one created last; the parameter is then set.

    `draw` shows what is below the heading. A `live` screen is read and drawn again every `refresh_seconds` while the search runs. Errors
    are shown as warnings; if the study cannot be read, a link to all studies follows.
    """
    with show_errors():
        record = records_cache.study(st.query_params.get("study"))
        if st.query_params.get("study") != record.name:
            st.query_params["study"] = record.name
        is_live = live and record.state == "running"
        st.fragment(_panel, run_every=records_cache.refresh_seconds() if is_live else None)(title, record.name, draw, is_live)
        return
    st.page_link("views/studies.py", label="All studies")


def _panel(title: str, name: str, draw: Callable[[StudyRecord], None], is_live: bool) -> None:
    with show_errors():
        record = records_cache.study(name)
        if is_live and record.state != "running":
            st.rerun()
        show_heading(record, title)
        draw(record)


def show_heading(record: StudyRecord, title: str) -> None:
    """Show the title of a screen, and below it the study's state and name, and why it ended. On "Study" the title is the study's name."""
    st.title(escape(record.name) if title == SCREENS["study"] else title, anchor=False)
    name = f" {escape(record.name)}" if title != SCREENS["study"] else ""
    why = f" {escape(record.why)}" if record.why else ""
    st.markdown(f"{state_badge(record.state)}{name}{' ·' if name and why else ''}{why}")


def screen_link(screen: str, label: str, study: str, **more: str) -> None:
    """Show a link to a screen of a study. `screen` is a key of `SCREENS`; `label` is plain text; `more` are further query parameters."""
    st.page_link(f"views/{screen}.py", label=escape(label), query_params={"study": study, **more})


def state_badge(state: str) -> str:
    """Return a study's state as a coloured badge, in Streamlit's Markdown."""
    return f":{STUDY_BADGES.get(state, 'gray')}-badge[{escape(state)}]"


def trial_badge(state: str, text: str = "") -> str:
    """Return a badge with the colour of a trial's state, in Streamlit's Markdown; it shows `text`, or the state if that is empty."""
    return f":{TRIAL_BADGES.get(state, 'gray')}-badge[{escape(text or state)}]"


def trial_badges(counts: dict[str, int]) -> str:
    """Return the number of trials by state as badges in Streamlit's Markdown, without states that have no trials; or "no trials yet"."""
    return " ".join(trial_badge(state, f"{count:,} {state}") for state, count in counts.items() if count) or "no trials yet"


@dataclass(frozen=True)
class Tile:
    """A number for `show_tiles`: its name (plain text), its value, a line below it, and an explanation on hover (all Markdown)."""

    label: str
    value: str
    below: str | None = None
    help: str | None = None


def show_tiles(tiles: Iterable[Tile]) -> None:
    """Show numbers in a row that wraps on a narrow screen."""
    with st.container(horizontal=True):
        for tile in tiles:
            st.metric(
                escape(tile.label),
                tile.value,
                tile.below,
                help=tile.help,
                delta_color="off",
                delta_arrow="off",
                border=True,
                width="content",
                height="stretch",
            )


def four_digits(value: float | None, *, sign: bool = False) -> str:
    """Return a value with four significant digits as text, with `sign` also a plus sign; a dash for None."""
    return "–" if value is None else f"{value:+.4g}" if sign else f"{value:.4g}"
