"""Trial: one configuration, how it learnt, why it ended, and what its network gets wrong."""

import base64
import re

import streamlit as st

from dashboard import actions, auth, layout, records_cache
from dashboard.charts import trial_charts
from dashboard.charts.prediction_charts import drawn
from dashboard.data import study_data, trial_data, trial_table
from search.formatting import duration
from search.record.records import StudyRecord, TrialRecord
from trainables.errors import StorageError

AHEAD = re.compile(r"behind trial (\d+)")
PICTURE = 140


def draw(record: StudyRecord) -> None:
    """Show the trial that the address names, the best by default."""
    trial = _chosen(record)
    if trial is None:
        st.info("No trial has begun yet.")
        return
    for part in (_ending, _facts, _words, _curves, _pictures, _log):
        with records_cache.kindly():
            part(record, trial)
    actions.notes(record, trial.number)
    if auth.may_act():
        actions.of_trial(record, trial)


def _chosen(record: StudyRecord) -> TrialRecord | None:
    if not record.trials:
        return None
    known = {str(trial.number): trial for trial in record.trials}
    first = record.trials[0] if record.best is None else record.best
    wanted = st.query_params.get("trial", str(first.number))
    if wanted not in known:
        st.warning(records_cache.plain(f"there is no trial {wanted[:80]} in {record.name}; this is trial {first.number}"))
    trial = known.get(wanted, first)
    before, choice, after = st.columns([1, 2, 1], vertical_alignment="bottom")
    key = f"trial-{record.name}-{trial.number}"
    choice.number_input("Trial", record.trials[0].number, record.trials[-1].number, trial.number, key=key, on_change=_turn, args=(key,))
    for place, neighbour, label in ((before, trial.number - 1, "← trial {}"), (after, trial.number + 1, "trial {} →")):
        if str(neighbour) in known:
            with place:
                layout.link("trial", label.format(neighbour), record.name, trial=str(neighbour))
    return trial


def _turn(key: str) -> None:
    st.query_params["trial"] = str(st.session_state[key])


def _ending(record: StudyRecord, trial: TrialRecord) -> None:
    st.markdown(f"{layout.trial_badge(trial.state)} {records_cache.plain(trial_table.ending(trial))}")
    ahead = AHEAD.search(trial.stop_reason)
    if ahead:
        layout.link("trial", f"the trial that was ahead: trial {ahead[1]} →", record.name, trial=ahead[1])
    if trial.error:
        with st.expander(f"The error: {records_cache.plain(trial.error.get('message', ''))[:200]}", expanded=True):
            st.code(trial.error.get("traceback", ""), language=None)
    for retry in trial.attributes.get("retries", ()):
        st.caption(records_cache.plain(f"tried again after epoch {retry.get('epoch')}: {retry.get('kind')}: {retry.get('message')}"))


def _facts(record: StudyRecord, trial: TrialRecord) -> None:
    known = {**trial.attributes.get("facts", {}), **trial.attributes}
    spent, memory, share = known.get("seconds_total"), known.get("peak_memory_bytes"), known.get("trainable_parameters")
    layout.tiles(
        (
            layout.Tile(f"validation {record.metric}", layout.number(trial.value)),
            layout.Tile("epochs", f"{trial.epochs_done} of {trial.epochs_planned}"),
            layout.Tile("time at work", "–" if spent is None else duration(spent)),
            layout.Tile("peak memory", "–" if not memory else f"{memory / 1e9:.2f} GB"),
            layout.Tile("parameters trained", "–" if not share else f"{share / 1e6:.3g} M"),
            layout.Tile("node", records_cache.plain(known.get("node", "–"))),
        )
    )


def _words(record: StudyRecord, trial: TrialRecord) -> None:
    left, right = st.columns(2)
    with left, records_cache.kindly():
        st.subheader("In words", anchor=False)
        if trial.config:
            st.markdown("\n".join(f"- {records_cache.plain(sentence)}" for sentence in study_data.configuration(trial)))
    with right:
        st.subheader("What was searched", anchor=False)
        used = trial_table.applies(record, trial)
        chosen = {name: trial.config.get(name) for name in trial_table.searched(record) if name in used}
        default = {} if record.default_recipe is None else record.default_recipe.config
        beside = {"this trial": chosen, "the default recipe": {name: default.get(name) for name in chosen}}
        st.dataframe(
            trial_table.side_by_side(beside, differing=False),
            height="content",
            key=f"searched-{record.name}-{trial.number}",
            alt="Searched values",
        )


def _curves(record: StudyRecord, trial: TrialRecord) -> None:
    st.subheader("Every metric by epoch", anchor=False)
    rows = trial_data.metrics(trial)
    if rows.empty:
        st.caption("It has reported no epoch yet.")
        return
    st.plotly_chart(trial_charts.metrics(rows), key=f"metrics-{record.name}-{trial.number}", alt="Every metric by epoch")


def _pictures(record: StudyRecord, trial: TrialRecord) -> None:
    st.subheader("What its network makes of the validation images", anchor=False)
    pictures = trial.account.get("pictures")
    if not pictures:
        raise StorageError("there are no pictures of this trial: it has saved no epoch, or was run by an older version of injerto")
    st.caption(f"After epoch {int(pictures['epoch'])}, on {int(pictures['images']):,} validation images.")
    shown = list(drawn(pictures))
    for place, (name, title, figure) in zip(st.columns(len(shown)), shown, strict=True):
        with place:
            st.markdown(f"**{title}**")
            st.plotly_chart(figure, key=f"{name}-{record.name}-{trial.number}", alt=title)
    if not pictures["worst"]:
        st.caption("It got no validation image wrong.")
        return
    st.markdown("**The images that it got most wrong**")
    with st.container(horizontal=True):
        for image in pictures["worst"]:
            with st.container(width=PICTURE, gap="xxsmall"):
                st.image(base64.b64decode(image["jpeg"]), width="stretch", alt=image["name"])
                said, truth, name = (records_cache.plain(image[part]) for part in ("prediction", "truth", "name"))
                st.markdown(f"said **{said}**  \nis **{truth}**  \n:gray[{name}]")


def _log(record: StudyRecord, trial: TrialRecord) -> None:
    lines = trial.account.get("log")
    if lines:
        with st.expander(f"Its log, {len(lines)} lines"):
            st.code("\n".join(lines), language=None, height=300)


if __name__ == "__main__":
    layout.of_study(layout.SCREENS["trial"], draw)
