"""Export: the best configuration in words and as a file, its weights, and the commands that use them."""

import shlex

import streamlit as st

from dashboard import layout, records_cache
from dashboard.data import best_recipe, study_data
from search.record.records import StudyRecord, TrialRecord


def draw(record: StudyRecord) -> None:
    """Show what a search hands over."""
    if record.best is None:
        st.info("No trial has ended with a value yet; the best configuration appears here once one has.")
        return
    left, right = st.columns(2)
    with left, records_cache.kindly():
        _configuration(record, record.best)
    with right, records_cache.kindly():
        _weights(record)
        _commands(record)


def _configuration(record: StudyRecord, best: TrialRecord) -> None:
    st.subheader(f"The best configuration: trial {best.number}", anchor=False)
    st.markdown("\n".join(f"- {records_cache.plain(sentence)}" for sentence in study_data.configuration(best)))
    text = best_recipe.recipe(record)
    st.download_button("Download best.yaml", text, "best.yaml", "application/yaml", on_click="ignore", type="primary")
    st.code(text, language="yaml", height=420)


def _weights(record: StudyRecord) -> None:
    st.subheader("Its weights", anchor=False)
    file = best_recipe.weights(record)
    if file is None:
        st.caption(records_cache.plain(best_recipe.where_weights_are(record)))
        return
    size = file.stat().st_size
    st.caption(f"{size / 1e6:,.1f} MB, the whole network as safetensors; its metadata says what an image goes through first.")
    if size > best_recipe.LARGEST:
        st.code(str(file), language=None)
    else:
        st.download_button("Download best.safetensors", file.read_bytes, "best.safetensors", "application/octet-stream", on_click="ignore")


def _commands(record: StudyRecord) -> None:
    st.subheader("What to do with it", anchor=False)
    name = shlex.quote(record.name)
    for words, command in {
        "Train it again; on the same machine it gives the same weights:": "injerto train best.yaml",
        "See the leaderboard in a terminal, or as JSON:": f"injerto best {name} --json",
        "Search on, from what is known:": f"injerto resume {name} --add-trials 10",
        "One file with the figures, for a mail or a pull request:": f"injerto report {name} --to report.html",
    }.items():
        st.caption(words)
        st.code(command, language="bash")


if __name__ == "__main__":
    layout.of_study(layout.SCREENS["export"], draw)
