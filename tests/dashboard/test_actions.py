"""Commands and notes: who is offered them, and what they write to the record."""

import socket

import optuna
import pytest

from dashboard import actions
from dashboard.markdown_text import escape
from search.record import lease
from tests.dashboard.screens import (
    VIEWS,
    after_refresh,
    all_text,
    button,
    button_labels,
    markdown_texts,
    open_screen,
    open_study,
    open_trial,
    some_quick,
    without_errors,
)

OFFERED = {"Pause the search", "End it now", "Add", "Add the note", "Stop trial 4", "Run it next"}


@pytest.mark.parametrize("view", some_quick(VIEWS))
def test_without_permission_no_action_is_offered(view, gallery_storage):
    app = open_screen(view, "calm-fig", trial="4")
    assert not button_labels(app) & OFFERED
    assert not app.text_area


def test_with_permission_every_action_is_offered(gallery_storage, allow_actions):
    offered = button_labels(open_screen("study", "calm-fig")) | button_labels(open_screen("trial", "calm-fig", trial="4"))
    assert offered >= OFFERED


def commands_of(search):
    return list(search.attributes("command:").values())


@pytest.mark.parametrize(("label", "command"), [("Pause the search", "pause"), ("End it now", "finish")])
def test_a_button_sends_a_command_and_shows_the_answer(label, command, played, allow_actions):
    app = without_errors(button(open_study("calm-fig"), label).click().run())
    (request,) = commands_of(played)
    assert request["do"] == command
    assert socket.gethostname() in request["by"]
    assert "the driver has not answered yet" in app.info[0].value.replace("\\", "")
    lease.answer_command(played.study, next(iter(lease.pending_commands(played.study))), "done, **x**")
    assert escape("done, **x**") in after_refresh(app).info[0].value


def test_only_a_running_trial_can_be_stopped(played, allow_actions):
    app = open_trial("4")
    without_errors(button(app, "Stop trial 4").click().run())
    assert [(request["do"], request["trial"]) for request in commands_of(played)] == [("stop trial", 4)]
    assert "Stop trial 1" not in button_labels(open_trial("1"))


def test_trials_can_be_added(played, allow_actions):
    app = open_study("calm-fig")
    assert app.text_input(key="add-time").disabled
    app.number_input(key="add-trials").set_value(5)
    without_errors(button(app, "Add").click().run())
    assert [(request["do"], request["trials"], request["seconds"]) for request in commands_of(played)] == [("add", 5, 0.0)]


@pytest.mark.parametrize(("time", "seconds"), [("30m", [1800.0]), ("soon", []), ("-5", [])])
def test_time_can_be_added_to_a_time_budget(time, seconds, played, allow_actions):
    config = played.study.user_attrs["config"]
    played.study.set_user_attr("config", config | {"budget": config["budget"] | {"time": 3600.0}})
    app = open_study("calm-fig")
    app.text_input(key="add-time").set_value(time)
    without_errors(button(app, "Add").click().run())
    assert [request["seconds"] for request in commands_of(played)] == seconds
    assert bool(seconds) != any(escape(time) in warning.value for warning in app.warning)


@pytest.mark.parametrize("number", [0, 1, 2])
def test_an_unchanged_form_enqueues_the_trials_own_configuration(number, played, allow_actions):
    app = open_trial(str(number))
    without_errors(button(app, "Run it next").click().run())
    (request,) = commands_of(played)
    assert request["do"] == "enqueue"
    assert played.space.check_params(request["params"]) == played.study.trials[number].params


def test_a_changed_form_enqueues_the_changed_configuration(played, allow_actions):
    app = open_trial("1")
    app.selectbox(key="enqueue-1-optimizer").set_value("sgd")
    app.number_input(key="enqueue-1-augmentation_strength").set_value(0.75)
    without_errors(button(app, "Run it next").click().run())
    params = played.space.check_params(commands_of(played)[0]["params"])
    assert params["optimizer"] == "sgd"
    assert params["augmentation_strength"] == 0.75


def test_a_search_that_is_not_running_offers_only_notes(played, allow_actions):
    played.state("interrupted", "by hand")
    app = open_study("calm-fig")
    assert not button_labels(app) & (OFFERED - {"Add the note"})
    assert "The search is not running" in all_text(app)
    assert not button_labels(open_trial("1")) & (OFFERED - {"Add the note"})


NOTE = "<img src=x onerror=alert(1)> **bold** :red[x] 🌱\n\nsecond line"


@pytest.mark.parametrize("number", [None, 1])
def test_a_note_is_stored_unchanged_and_shown_escaped(number, played, allow_actions):
    app = open_study("calm-fig") if number is None else open_trial("1")
    app.text_area(key=f"note-text-{number}").set_value(NOTE)
    without_errors(button(app, "Add the note").click().run())
    (note,) = played.attributes("note:").values()
    assert note["text"] == NOTE
    assert note["trial"] == number
    shown = after_refresh(app)
    assert any(escape(NOTE) in text for text in markdown_texts(shown))
    assert not any("<img" in text.replace("\\<", "") or "**bold**" in text for text in markdown_texts(shown))


def test_an_empty_note_is_not_stored(played, allow_actions):
    app = open_study("calm-fig")
    app.text_area(key="note-text-None").set_value("  \n ")
    without_errors(button(app, "Add the note").click().run())
    assert played.attributes("note:") == {}


def test_notes_are_shown_on_their_screen_without_permission_to_act(played):
    actions.write_note("calm-fig", 1, "of the trial")
    actions.write_note("calm-fig", None, "of the study")
    assert ("of the study" in all_text(open_study("calm-fig")), "of the trial" in all_text(open_study("calm-fig"))) == (True, False)
    assert "of the trial" in all_text(open_trial("1"))
    assert "of the" not in all_text(open_trial("0")).replace("of the epochs", "").partition("Notes")[2]


def test_a_long_note_is_cut(played):
    actions.write_note("calm-fig", None, "x" * 5000)
    (note,) = played.attributes("note:").values()
    assert note["text"] == "x" * actions.LONGEST_NOTE


def test_an_action_on_a_deleted_study_is_a_warning(played, allow_actions):
    app = open_study("calm-fig")
    optuna.delete_study(study_name="calm-fig", storage=played.url)
    without_errors(button(app, "Pause the search").click().run())
    assert app.warning
