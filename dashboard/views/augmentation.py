"""Augmentation: the study's own images at each strength, and what the search found out about it."""

import streamlit as st

from dashboard import layout, records_cache, zoomable_chart
from dashboard.charts import space_charts
from dashboard.data import space_analysis
from search.record.records import StudyRecord
from trainables.errors import StorageError

MIDDLE = 0.5


def draw(record: StudyRecord) -> None:
    """Show the images at the chosen strength, and the values that were reached with it."""
    left, right = st.columns([3, 2])
    chosen = MIDDLE
    with left, records_cache.kindly():
        chosen = _images(record)
    with right, records_cache.kindly():
        _found(record, chosen)


def _images(record: StudyRecord) -> float:
    shown = record.augmentation
    st.subheader("Its images", anchor=False)
    if not shown:
        st.caption("The previews come a few seconds after the search has begun; searches of older versions have none.")
        return MIDDLE
    strengths = sorted(map(float, shown["sheets"]))
    best = record.best.config.get("augmentation_strength", MIDDLE) if record.best is not None else MIDDLE
    start = min(strengths, key=lambda strength: abs(strength - best))
    strength = float(st.select_slider("Strength", strengths, start, key="strength", bind="query-params"))
    sheet = records_cache.artifact(record.root, shown["sheets"][str(strength)])
    st.image(sheet, width="stretch", alt=f"Images at strength {strength}")
    ops, draws = records_cache.plain(", ".join(shown["ops"])), int(shown["draws"])
    st.caption(f"A row an image: first as evaluation sees it, then as {draws} training steps would. Operations: {ops}.")
    with st.expander("Which images these are"):
        st.markdown("\n".join(f"1. {records_cache.plain(name)}" for name in shown["images"]))
    return strength


def _found(record: StudyRecord, chosen: float) -> None:
    st.subheader("What the search found", anchor=False)
    frame = space_analysis.by_strength(record)
    if len(frame) < space_analysis.FEWEST:
        raise StorageError(f"{len(frame)} trials have finished; {space_analysis.FEWEST} are needed to say something of the strength")
    zoomable_chart.chart(space_charts.strength(frame, record.metric, chosen), f"strength-{record.name}", "Value by augmentation strength")
    st.caption(records_cache.plain(space_analysis.best_part(frame.assign(state="finished"), "augmentation_strength", record.mode)))


if __name__ == "__main__":
    layout.of_study(layout.SCREENS["augmentation"], draw)
