"""Export: the best configuration as sentences and as a file, its weights, and the commands that use them."""

import shlex

import streamlit as st

from dashboard import layout
from dashboard.data import best_recipe, study_data
from dashboard.markdown_text import escape
from dashboard.record_errors import show_errors
from search.record.records import StudyRecord, TrialRecord


def draw(record: StudyRecord) -> None:
    """Show the best configuration and its weights to download, and commands that use them; before a trial has a value, only a message."""
    if record.best is None:
        st.info("No trial has ended with a value yet. The best configuration appears here as soon as one has.")
        return
    left, right = st.columns(2)
    with left, show_errors():
        _configuration(record, record.best)
    with right, show_errors():
        _weights(record)
        _commands(record)


def _configuration(record: StudyRecord, best: TrialRecord) -> None:
    st.subheader(f"The best configuration: trial {best.number}", anchor=False)
    st.markdown("\n".join(f"- {escape(sentence)}" for sentence in study_data.configuration_sentences(best)))
    text = best_recipe.recipe_yaml(record)
    st.download_button("Download best.yaml", text, "best.yaml", "application/yaml", on_click="ignore", type="primary")
    st.code(text, language="yaml", height=420)


def _weights(record: StudyRecord) -> None:
    st.subheader("Its weights", anchor=False)
    file = best_recipe.weights_file(record)
    if file is None:
        st.caption(escape(best_recipe.weights_location(record)))
        return
    size = file.stat().st_size
    st.caption(f"{size / 1e6:,.1f} MB, the whole network as safetensors. Its metadata describes the preprocessing of images.")
    if size > best_recipe.LARGEST_DOWNLOAD:
        st.code(str(file), language=None)
    else:
        st.download_button("Download best.safetensors", file.read_bytes, "best.safetensors", "application/octet-stream", on_click="ignore")


def _commands(record: StudyRecord) -> None:
    st.subheader("Commands", anchor=False)
    name = shlex.quote(record.name)
    for purpose, command in {
        "Train it again; the same machine gives the same weights:": "injerto train best.yaml",
        "Print the best trial as JSON:": f"injerto best {name} --json",
        "Continue the search with more trials:": f"injerto resume {name} --add-trials 10",
        "Write the main figures to one HTML file:": f"injerto report {name} --to report.html",
    }.items():
        st.caption(purpose)
        st.code(command, language="bash")


if __name__ == "__main__":
    layout.show_study_screen(layout.SCREENS["export"], draw)
