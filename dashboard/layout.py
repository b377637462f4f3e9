"""What all screens share: the study of the address, the refresh while it runs, links between screens, badges and tiles."""

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
"""Screen of a study → its title. Each is a file in `views` and a URL path."""


def show_study_screen(title: str, draw: Callable[[StudyRecord], None], *, live: bool = True) -> None:
    """Show a screen of the study that the address names, the latest by default.

    A `live` screen is drawn again every `refresh_seconds` while the search runs.
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
    """Show the title of a screen, the study and its state."""
    st.title(escape(record.name) if title == SCREENS["study"] else title, anchor=False)
    name = f" {escape(record.name)}" if title != SCREENS["study"] else ""
    why = f" {escape(record.why)}" if record.why else ""
    st.markdown(f"{state_badge(record.state)}{name}{' ·' if name and why else ''}{why}")


def screen_link(screen: str, label: str, study: str, **more: str) -> None:
    """Show a link to a screen of a study. `label` is escaped; `more` are further query parameters."""
    st.page_link(f"views/{screen}.py", label=escape(label), query_params={"study": study, **more})


def state_badge(state: str) -> str:
    """Return the badge of a study's state as Markdown."""
    return f":{STUDY_BADGES.get(state, 'gray')}-badge[{escape(state)}]"


def trial_badge(state: str, text: str = "") -> str:
    """Return the badge of a trial's state as Markdown, or a badge of that colour with another text."""
    return f":{TRIAL_BADGES.get(state, 'gray')}-badge[{escape(text or state)}]"


def trial_badges(counts: dict[str, int]) -> str:
    """Return the number of trials by state as badges in Markdown, omitting states with no trials."""
    return " ".join(trial_badge(state, f"{count:,} {state}") for state, count in counts.items() if count) or "no trials yet"


@dataclass(frozen=True)
class Tile:
    """A number with its name, a line below it, and an explanation; all but the name are Markdown."""

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
    """Return a value with four significant digits, a dash for None."""
    return "–" if value is None else f"{value:+.4g}" if sign else f"{value:.4g}"
