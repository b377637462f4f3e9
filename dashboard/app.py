"""The router: which screens there are. Streamlit runs this file for every visit and every click."""

from pathlib import Path

import streamlit as st

from dashboard import auth, layout, records_cache

HERE = Path(__file__).parent
ICON = str(HERE / "icon.svg")
CLOSER = (
    "<style>[data-testid=stMainBlockContainer] {padding: 3.5rem clamp(1rem, 3vw, 3rem) 4rem}"
    "[data-testid=stStatusWidget] button {display: none}</style>"  # it stops the drawing of a page, and reads as if it stopped the search
)


def main() -> None:
    """Show the screen that the address names."""
    st.set_page_config(page_title="Injerto", page_icon=ICON, layout="wide", initial_sidebar_state=200)
    st.html(CLOSER)
    st.logo(ICON, size="large")
    studies = st.Page(HERE / "views" / "studies.py", title="Studies", url_path="studies", default=True)
    screens = [st.Page(layout.VIEWS / f"{name}.py", title=title, url_path=name) for name, title in layout.SCREENS.items()]
    chosen = st.navigation([studies, *screens], position="hidden")
    auth.require_login()
    with st.sidebar:
        _sidebar()
    chosen.run()


def _sidebar() -> None:
    """Show the links, each to its screen of the study that is looked at, and the choice of another study."""
    st.page_link("views/studies.py", label="Studies")
    with records_cache.kindly():
        names = records_cache.names()[::-1]
        if not names:
            return
        looked_at = st.query_params.get("study")
        place = names.index(looked_at) if looked_at in names else 0
        chosen = st.selectbox("Study", names, index=place, key=f"study-of-{looked_at}", label_visibility="collapsed")
        if looked_at is not None and chosen != looked_at and looked_at in names:
            st.query_params.from_dict({"study": chosen})
            st.rerun()
        for name, title in layout.SCREENS.items():
            layout.link(name, title, chosen)


if __name__ == "__main__":
    main()
