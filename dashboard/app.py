"""The router: which screens there are. Streamlit runs this file for every visit and every click."""

from pathlib import Path

import streamlit as st

HERE = Path(__file__).parent
ICON = str(HERE / "icon.svg")
CLOSER = "<style>[data-testid=stMainBlockContainer] {padding-top: 4.5rem}</style>"


def main() -> None:
    """Show the screen that the address names."""
    st.set_page_config(page_title="Injerto", page_icon=ICON, layout="wide")
    st.html(CLOSER)
    st.logo(ICON, size="large")
    screens = [
        st.Page(HERE / "views" / "studies.py", title="Studies", url_path="studies", default=True),
        st.Page(HERE / "views" / "study.py", title="Study", url_path="study"),
    ]
    st.navigation(screens, position="top").run()


if __name__ == "__main__":
    main()
