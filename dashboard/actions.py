"""Buttons and forms for a viewer's commands and notes, which need ``--allow-actions``, and the notes and answers themselves.

Commands and notes are appended to the study's record; the driver of the search reads and executes the commands.
"""

import os
import socket
import uuid
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import streamlit as st
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution, json_to_distribution

from dashboard import auth, records_cache
from dashboard.markdown_text import escape
from dashboard.record_errors import show_errors, translate_storage_errors
from search.durations import parse_duration
from search.record import lease
from search.record.records import NOTE_PREFIX, StudyRecord, TrialRecord

LONGEST_NOTE = 2000
LATEST_COMMANDS = 3
"""Number of a viewer's commands whose answers are shown: the latest."""


def study_actions(record: StudyRecord) -> None:
    """Show the controls that pause or end a search or add to its budget, and the answers to this viewer's commands.

    For a search that is not running, show only that it must be resumed first. The caller checks `auth.may_act`.
    """
    st.subheader("Actions", anchor=False)
    if record.state != "running":
        st.caption("The search is not running; resume it in a terminal before you send it commands.")
        return
    pause, finish, more = st.columns([1, 1, 2])
    pause.button("Pause the search", on_click=append_command, args=(record.name, "pause"), help="It can be resumed.", width="stretch")
    with finish.popover("End the search", width="stretch"):
        st.write("Running trials stop at their next epoch, the test split is evaluated, and the best configuration is written.")
        st.button("End it now", on_click=append_command, args=(record.name, "finish"), type="primary")
    with more.form("add", border=False, clear_on_submit=True):
        trials, time, button = st.columns([2, 2, 1], vertical_alignment="bottom")
        trials.number_input("Trials to add", min_value=0, max_value=10_000, value=0, step=1, key="add-trials")
        time.text_input(
            "Time to add",
            placeholder="30m, 2h",
            key="add-time",
            disabled=record.config.get("budget", {}).get("time") is None,
            help="Only for a search with a time budget.",
        )
        button.form_submit_button("Add", on_click=_add_budget, args=(record.name,), width="stretch")
    show_answers(record.name)


def trial_actions(record: StudyRecord, trial: TrialRecord) -> None:
    """Show a button that stops a running trial, a form that enqueues a similar configuration, and the answers to this viewer's commands.

    Shows nothing for a search that is not running. The caller checks `auth.may_act`.
    """
    if record.state != "running":
        return
    if trial.state == "running":
        arguments = {"trial": trial.number}
        st.button(f"Stop trial {trial.number}", on_click=append_command, args=(record.name, "stop trial"), kwargs=arguments)
    if record.parameters:
        with st.expander("Try a configuration like this one"), st.form(f"enqueue-{trial.number}", border=False):
            st.caption("It runs as the next trial, in addition to the budget. Parameters that do not apply are ignored.")
            for name, about in record.parameters.items():
                _parameter_field(trial, name, about["range"], record.space.get(name, ""))
            st.form_submit_button("Run it next", on_click=_enqueue, args=(record, trial))
    show_answers(record.name)


def _parameter_field(trial: TrialRecord, name: str, distribution_json: str, range_text: str) -> None:
    """Show a form field for a parameter, filled with the trial's value, or with the first choice or lowest value if the trial has none.

    `distribution_json` is the parameter's Optuna distribution, `range_text` the field's help text.
    """
    distribution, value, key = json_to_distribution(distribution_json), trial.params.get(name), _field_key(trial, name)
    if isinstance(distribution, CategoricalDistribution):
        choices = list(distribution.choices)
        st.selectbox(escape(name), choices, index=choices.index(value) if value in choices else 0, key=key)
        return
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    is_integer = isinstance(distribution, IntDistribution)
    kind: type[int] | type[float] = int if is_integer else float
    low, high = kind(distribution.low), kind(distribution.high)
    st.number_input(
        escape(name),
        low,
        high,
        min(max(kind(value), low), high) if value is not None else low,
        step=1 if is_integer else None,
        format=None if is_integer else "%.6g",
        key=key,
        help=escape(range_text),
    )


def _field_key(trial: TrialRecord, name: str) -> str:
    return f"enqueue-{trial.number}-{name}"


def _enqueue(record: StudyRecord, trial: TrialRecord) -> None:
    append_command(record.name, "enqueue", params={name: st.session_state[_field_key(trial, name)] for name in record.parameters})


def _add_budget(name: str) -> None:
    with show_errors():
        seconds = parse_duration("time", st.session_state.get("add-time") or None)
        append_command(name, "add", trials=st.session_state["add-trials"], seconds=seconds)


def append_command(name: str, command: str, **arguments: Any) -> None:
    """Append a command (see `steering.COMMANDS`) to the record of the study `name`, and remember it in the viewer's session.

    `arguments` are the command's own and must be JSON values. The driver answers within a second or two, see `show_answers`. An error of
    the storage is shown as a warning.
    """
    with show_errors(), translate_storage_errors():
        key = lease.send_command(records_cache.optuna_study(name), command, by="the dashboard", **arguments)
        st.session_state.setdefault(f"commands-{name}", []).append((key, command))


def show_answers(name: str) -> None:
    """Show this viewer's latest `LATEST_COMMANDS` commands to the study `name`, and the driver's answers to them.

    Raises ``StorageError`` if the storage cannot be read.
    """
    commands = st.session_state.get(f"commands-{name}", [])
    if not commands:
        return
    with translate_storage_errors():
        study = records_cache.optuna_study(name)
        answers = [(command, lease.answer_to(study, key)) for key, command in commands[-LATEST_COMMANDS:]]
    for command, answer in answers:
        st.info(f"{escape(command)}: {escape(answer) if answer else 'sent; the driver has not answered yet'}")


def show_notes(record: StudyRecord, number: int | None) -> None:
    """Show the notes on trial `number`, or on the study for None, and a form for a new note if the viewer may act."""
    notes = [note for note in record.notes if note.get("trial") == number]
    if notes or auth.may_act():
        st.subheader("Notes", anchor=False)
    for note in notes:
        st.markdown(f"{escape(note['text'])}  \n:gray[{escape(note['at'])}]")
    if auth.may_act():
        with st.form(f"note-{number}", border=False, clear_on_submit=True):
            st.text_area("A note", key=f"note-text-{number}", max_chars=LONGEST_NOTE, label_visibility="collapsed", placeholder="A note")
            st.form_submit_button("Add the note", on_click=_add_note, args=(record.name, number))


def _add_note(name: str, number: int | None) -> None:
    text = str(st.session_state.get(f"note-text-{number}") or "").strip()
    if text:
        with show_errors():
            write_note(name, number, text)


def write_note(name: str, number: int | None, text: str) -> None:
    """Append a note to the record of the study `name`: on trial `number`, or on the study if `number` is None.

    The text is cut to `LONGEST_NOTE` characters. The note also records this process, its host and the time.

    Raises ``StorageError`` if the storage cannot be written.
    """
    note: Mapping[str, Any] = {
        "trial": number,
        "text": text[:LONGEST_NOTE],
        "by": f"process {os.getpid()} on {socket.gethostname()}",
        "at": datetime.now().isoformat(sep=" ", timespec="seconds"),
    }
    with translate_storage_errors():
        records_cache.optuna_study(name).set_user_attr(f"{NOTE_PREFIX}{uuid.uuid4().hex}", note)
