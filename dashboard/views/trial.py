"""Trial: one configuration, its metrics by epoch, why it ended, and the errors of its network."""

import base64
import re
from typing import Any

import streamlit as st

from dashboard import actions, auth, layout
from dashboard.charts import trial_charts
from dashboard.charts.prediction_charts import prediction_figures
from dashboard.data import study_data, trial_data, trial_table
from dashboard.markdown_text import escape
from dashboard.record_errors import show_errors
from search.formatting import duration
from search.record.records import StudyRecord, TrialRecord
from trainables.errors import StorageError

BEATEN_BY = re.compile(r"behind trial (\d+)")
IMAGE_WIDTH = 140


def draw(record: StudyRecord) -> None:
    """Show the trial that the URL parameter ``trial`` names, or the best, or the first if there is no best; then its notes and actions."""
    trial = _chosen_trial(record)
    if trial is None:
        st.info("No trial has begun yet.")
        return
    for part in (_ending, _facts, _configuration, _metrics, _predictions, _log):
        with show_errors():
            part(record, trial)
    actions.show_notes(record, trial.number)
    if auth.may_act():
        actions.trial_actions(record, trial)


def _chosen_trial(record: StudyRecord) -> TrialRecord | None:
    if not record.trials:
        return None
    known = {str(trial.number): trial for trial in record.trials}
    first = record.trials[0] if record.best is None else record.best
    wanted = st.query_params.get("trial", str(first.number))
    if wanted not in known:
        st.warning(escape(f"there is no trial {wanted[:80]} in {record.name}; this is trial {first.number}"))
    trial = known.get(wanted, first)
    before, choice, after = st.columns([1, 2, 1], vertical_alignment="bottom")
    key = f"trial-{record.name}-{trial.number}"
    choice.number_input(
        "Trial", record.trials[0].number, record.trials[-1].number, trial.number, key=key, on_change=_go_to_trial, args=(key,)
    )
    for place, neighbour, label in ((before, trial.number - 1, "← trial {}"), (after, trial.number + 1, "trial {} →")):
        if str(neighbour) in known:
            with place:
                layout.screen_link("trial", label.format(neighbour), record.name, trial=str(neighbour))
    return trial


def _go_to_trial(key: str) -> None:
    st.query_params["trial"] = str(st.session_state[key])


def _ending(record: StudyRecord, trial: TrialRecord) -> None:
    st.markdown(f"{layout.trial_badge(trial.state)} {escape(trial_table.describe_ending(trial))}")
    leader = BEATEN_BY.search(trial.stop_reason)
    if leader:
        layout.screen_link("trial", f"the best trial at that rung: trial {leader[1]} →", record.name, trial=leader[1])
    if trial.error:
        with st.expander(f"Error: {escape(trial.error.get('message', ''))[:200]}", expanded=True):
            st.code(trial.error.get("traceback", ""), language=None)
    for retry in trial.attributes.get("retries", ()):
        st.caption(escape(f"retried after epoch {retry.get('epoch')}: {retry.get('kind')}: {retry.get('message')}"))
    for restart in _known(trial).get("restarts", ()):
        st.caption(escape(restart))


def _known(trial: TrialRecord) -> dict[str, Any]:
    """Return a trial's attributes and facts. The facts are among the attributes once the trial has ended."""
    return {**trial.attributes.get("facts", {}), **trial.attributes}


def _facts(record: StudyRecord, trial: TrialRecord) -> None:
    known = _known(trial)
    spent, memory, share = known.get("seconds_total"), known.get("peak_memory_bytes"), known.get("trainable_parameters")
    layout.show_tiles(
        (
            layout.Tile(f"validation {record.metric}", layout.four_digits(trial.value)),
            layout.Tile("epochs", f"{trial.epochs_done} of {trial.epochs_planned}"),
            layout.Tile("time spent", "–" if spent is None else duration(spent)),
            layout.Tile("peak memory", "–" if not memory else f"{memory / 1e9:.2f} GB"),
            layout.Tile("parameters trained", "–" if not share else f"{share / 1e6:.3g} M"),
            layout.Tile("node", escape(known.get("node", "–"))),
        )
    )


def _configuration(record: StudyRecord, trial: TrialRecord) -> None:
    left, right = st.columns(2)
    with left, show_errors():
        st.subheader("Configuration", anchor=False)
        if trial.config:
            st.markdown("\n".join(f"- {escape(sentence)}" for sentence in study_data.configuration_sentences(trial)))
    with right:
        st.subheader("Searched parameters", anchor=False)
        used = trial_table.used_fields(record, trial)
        chosen = {name: trial.config.get(name) for name in trial_table.searched_fields(record) if name in used}
        default = {} if record.default_recipe is None else record.default_recipe.config
        beside = {"this trial": chosen, "the default recipe": {name: default.get(name) for name in chosen}}
        st.dataframe(
            trial_table.side_by_side(beside, differing=False),
            height="content",
            key=f"searched-{record.name}-{trial.number}",
            alt="Searched values",
        )


def _metrics(record: StudyRecord, trial: TrialRecord) -> None:
    st.subheader("Metrics by epoch", anchor=False)
    rows = trial_data.metrics(trial)
    if rows.empty:
        st.caption("This trial has reported no epoch yet.")
        return
    st.plotly_chart(trial_charts.metrics(rows), key=f"metrics-{record.name}-{trial.number}", alt="Metrics by epoch")


def _predictions(record: StudyRecord, trial: TrialRecord) -> None:
    st.subheader("Predictions on the validation images", anchor=False)
    pictures = trial.report.get("pictures")
    if not pictures:
        raise StorageError("this trial has no predictions to show: it has saved no epoch, or an older version of injerto ran it")
    st.caption(f"After epoch {int(pictures['epoch'])}, on {int(pictures['images']):,} validation images.")
    shown = list(prediction_figures(pictures))
    for place, (name, title, figure) in zip(st.columns(len(shown)), shown, strict=True):
        with place:
            st.markdown(f"**{title}**")
            st.plotly_chart(figure, key=f"{name}-{record.name}-{trial.number}", alt=title)
    if not pictures["worst"]:
        st.caption("All validation images are predicted correctly.")
        return
    st.markdown("**The worst predictions**")
    with st.container(horizontal=True):
        for image in pictures["worst"]:
            with st.container(width=IMAGE_WIDTH, gap="xxsmall"):
                st.image(base64.b64decode(image["jpeg"]), width="stretch", alt=image["name"])
                prediction, truth, name = (escape(image[part]) for part in ("prediction", "truth", "name"))
                st.markdown(f"predicted **{prediction}**  \ntrue **{truth}**  \n:gray[{name}]")


def _log(record: StudyRecord, trial: TrialRecord) -> None:
    lines = trial.report.get("log")
    if lines:
        with st.expander(f"Log, {len(lines)} lines"):
            st.code("\n".join(lines), language=None, height=300)


if __name__ == "__main__":
    layout.show_study_screen(layout.SCREENS["trial"], draw)
