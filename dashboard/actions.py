"""What a viewer may ask of a search, where the dashboard was started with ``--allow-actions``: appended to the study for its driver."""

import os
import socket
import uuid
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import streamlit as st
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution, json_to_distribution

from dashboard import auth, records_cache
from search.config import duration
from search.record import lease
from search.record.records import NOTE, StudyRecord, TrialRecord

LONGEST_NOTE = 2000


def of_study(record: StudyRecord) -> None:
    """Show what can be asked of the whole search."""
    st.subheader("Actions", anchor=False)
    if record.state != "running":
        st.caption("The search does not run; go on with it in a terminal to ask something of it.")
        return
    pause, finish, more = st.columns([1, 1, 2])
    pause.button("Pause the search", on_click=ask, args=(record.name, "pause"), help="It can be resumed.", width="stretch")
    with finish.popover("End the search", width="stretch"):
        st.write("Running trials stop at their next epoch, the test images are opened, and the best configuration is handed over.")
        st.button("End it now", on_click=ask, args=(record.name, "finish"), type="primary")
    with more.form("add", border=False, clear_on_submit=True):
        trials, time, button = st.columns([2, 2, 1], vertical_alignment="bottom")
        trials.number_input("Trials to add", min_value=0, max_value=10_000, value=0, step=1, key="add-trials")
        time.text_input(
            "Time to add",
            placeholder="30m, 2h",
            key="add-time",
            disabled=record.config.get("budget", {}).get("time") is None,
            help="Where the search has a limit of time.",
        )
        button.form_submit_button("Add", on_click=_add, args=(record.name,), width="stretch")
    answers(record.name)


def of_trial(record: StudyRecord, trial: TrialRecord) -> None:
    """Show what can be asked of one trial, and of the search about its configuration."""
    if record.state != "running":
        return
    if trial.state == "running":
        st.button(f"Stop trial {trial.number}", on_click=ask, args=(record.name, "stop trial"), kwargs={"trial": trial.number})
    if record.parameters:
        with st.expander("Try a configuration like this one"), st.form(f"enqueue-{trial.number}", border=False):
            st.caption("It runs as the next trial, one more than the budget. What does not apply is left out.")
            for name, about in record.parameters.items():
                _field(trial, name, about["range"], record.space.get(name, ""))
            st.form_submit_button("Run it next", on_click=_enqueue, args=(record, trial))
    answers(record.name)


def _field(trial: TrialRecord, name: str, written: str, words: str) -> None:
    """Show a parameter as a field of the form, filled with the trial's value."""
    found, value, key = json_to_distribution(written), trial.params.get(name), _key(trial, name)
    if isinstance(found, CategoricalDistribution):
        choices = list(found.choices)
        st.selectbox(records_cache.plain(name), choices, index=choices.index(value) if value in choices else 0, key=key)
        return
    assert isinstance(found, IntDistribution | FloatDistribution)
    kind: type[int] | type[float] = int if isinstance(found, IntDistribution) else float
    low, high = kind(found.low), kind(found.high)
    shown = min(max(kind(value), low), high) if value is not None else low
    whole = kind is int
    st.number_input(
        records_cache.plain(name),
        low,
        high,
        shown,
        step=1 if whole else None,
        format=None if whole else "%.6g",
        key=key,
        help=records_cache.plain(words),
    )


def _key(trial: TrialRecord, name: str) -> str:
    return f"enqueue-{trial.number}-{name}"


def _enqueue(record: StudyRecord, trial: TrialRecord) -> None:
    ask(record.name, "enqueue", params={name: st.session_state[_key(trial, name)] for name in record.parameters})


def _add(name: str) -> None:
    with records_cache.kindly():
        time = st.session_state.get("add-time")
        seconds = duration("time", time) if time else 0.0
        ask(name, "add", trials=st.session_state["add-trials"], seconds=seconds)


def ask(name: str, command: str, **about: Any) -> None:
    """Append a request to the study; its driver answers within a second or two."""
    with records_cache.kindly(), records_cache.translated():
        key = lease.send(records_cache.optuna_study(name), command, by="the dashboard", **about)
        st.session_state.setdefault(f"asked-{name}", []).append((key, command))


def answers(name: str) -> None:
    """Show what this viewer has asked, and the driver's answers."""
    asked = st.session_state.get(f"asked-{name}", [])
    if not asked:
        return
    with records_cache.translated():
        study = records_cache.optuna_study(name)
        answered = [(command, lease.answered(study, key)) for key, command in asked[-3:]]
    for command, said in answered:
        st.info(f"{records_cache.plain(command)}: {records_cache.plain(said) if said else 'asked; the driver has not answered yet'}")


def notes(record: StudyRecord, number: int | None) -> None:
    """Show the notes on a trial, or on the study, and where a viewer may act a way to add one."""
    theirs = [note for note in record.notes if note.get("trial") == number]
    if theirs or auth.may_act():
        st.subheader("Notes", anchor=False)
    for note in theirs:
        st.markdown(f"{records_cache.plain(note['text'])}  \n:gray[{records_cache.plain(note['at'])}]")
    if auth.may_act():
        with st.form(f"note-{number}", border=False, clear_on_submit=True):
            st.text_area("A note", key=f"note-text-{number}", max_chars=LONGEST_NOTE, label_visibility="collapsed", placeholder="A note")
            st.form_submit_button("Add the note", on_click=_add_note, args=(record.name, number))


def _add_note(name: str, number: int | None) -> None:
    text = str(st.session_state.get(f"note-text-{number}") or "").strip()
    if text:
        with records_cache.kindly():
            write_note(name, number, text)


def write_note(name: str, number: int | None, text: str) -> None:
    """Append a note to a study. Raises ``StorageError`` if the storage cannot be written."""
    note: Mapping[str, Any] = {
        "trial": number,
        "text": text[:LONGEST_NOTE],
        "by": f"process {os.getpid()} on {socket.gethostname()}",
        "at": datetime.now().isoformat(sep=" ", timespec="seconds"),
    }
    with records_cache.translated():
        records_cache.optuna_study(name).set_user_attr(f"{NOTE}{uuid.uuid4().hex}", note)
