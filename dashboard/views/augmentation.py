"""Augmentation: the study's images at each strength, and the values that trials reached with it."""

import streamlit as st

from dashboard import layout, records_cache, zoomable_chart
from dashboard.charts import space_charts
from dashboard.data import space_analysis
from dashboard.markdown_text import escape
from dashboard.record_errors import show_errors
from search.record.records import StudyRecord
from trainables.errors import StorageError

MIDDLE = 0.5


def draw(record: StudyRecord) -> None:
    """Show sample images at a strength that the viewer chooses, and a chart of the trials' values by strength."""
    left, right = st.columns([3, 2])
    strength = MIDDLE
    with left, show_errors():
        strength = _images(record)
    with right, show_errors():
        _value_by_strength(record, strength)


def _images(record: StudyRecord) -> float:
    previews = record.augmentation
    st.subheader("Images", anchor=False)
    if not previews:
        st.caption("The previews are drawn a few seconds after the search begins. Searches of older versions have none.")
        return MIDDLE
    strengths = sorted(map(float, previews["sheets"]))
    best = record.best.config.get("augmentation_strength", MIDDLE) if record.best is not None else MIDDLE
    start = min(strengths, key=lambda strength: abs(strength - best))
    strength = float(st.select_slider("Strength", strengths, start, key="strength", bind="query-params"))
    sheet = records_cache.artifact(record.root, previews["sheets"][str(strength)])
    st.image(sheet, width="stretch", alt=f"Images at strength {strength}")
    ops, draws = escape(", ".join(previews["ops"])), int(previews["draws"])
    st.caption(f"One row per image: first as evaluation sees it, then as {draws} training steps could see it. Operations: {ops}.")
    with st.expander("Names of the images"):
        st.markdown("\n".join(f"1. {escape(name)}" for name in previews["images"]))
    return strength


def _value_by_strength(record: StudyRecord, strength: float) -> None:
    st.subheader("Value by strength", anchor=False)
    frame = space_analysis.values_by_strength(record)
    if len(frame) < space_analysis.FEWEST_TRIALS:
        raise StorageError(f"{len(frame)} trials have finished; {space_analysis.FEWEST_TRIALS} are needed to compare strengths")
    zoomable_chart.show_chart(
        space_charts.strength(frame, record.metric, strength), f"strength-{record.name}", "Value by augmentation strength"
    )
    st.caption(escape(space_analysis.describe_best_range(frame.assign(state="finished"), "augmentation_strength", record.mode)))


if __name__ == "__main__":
    layout.show_study_screen(layout.SCREENS["augmentation"], draw)
