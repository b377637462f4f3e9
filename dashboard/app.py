"""The router of the screens. Streamlit runs this file for every visit and every click.

Streamlit puts this folder first on ``sys.path``, so no module in it may have the name of an installed package.
"""

from pathlib import Path

import streamlit as st

from dashboard import auth, layout, records_cache
from dashboard.record_errors import show_errors

FOLDER = Path(__file__).parent
ICON = str(FOLDER / "icon.svg")
# The status widget's button stops the drawing of the page. Viewers would expect it to stop the search, so it is hidden.
PAGE_CSS = (
    "<style>[data-testid=stMainBlockContainer] {padding: 3.5rem clamp(1rem, 3vw, 3rem) 4rem}"
    "[data-testid=stStatusWidget] button {display: none}</style>"
)


def main() -> None:
    """Show the sidebar and the screen that the page's URL names; before that, the login if the viewer must log in."""
    st.set_page_config(page_title="Injerto", page_icon=ICON, layout="wide", initial_sidebar_state=200)
    st.html(PAGE_CSS)
    st.logo(ICON, size="large")
    studies = st.Page(FOLDER / "views" / "studies.py", title="Studies", url_path="studies", default=True)
    screens = [st.Page(layout.VIEWS / f"{name}.py", title=title, url_path=name) for name, title in layout.SCREENS.items()]
    chosen = st.navigation([studies, *screens], position="hidden")
    auth.require_login()
    with st.sidebar:
        _sidebar()
    chosen.run()


def _sidebar() -> None:
    """Show links to the screens of the current study, and a box to choose another study. A choice changes the URL and reruns the page."""
    st.page_link("views/studies.py", label="Studies")
    with show_errors():
        names = records_cache.names()[::-1]
        if not names:
            return
        current = st.query_params.get("study")
        index = names.index(current) if current in names else 0
        chosen = st.selectbox("Study", names, index=index, key=f"study-of-{current}", label_visibility="collapsed")
        if current is not None and chosen != current and current in names:
            st.query_params.from_dict({"study": chosen})
            st.rerun()
        for name, title in layout.SCREENS.items():
            layout.screen_link(name, title, chosen)


if __name__ == "__main__":
    main()
