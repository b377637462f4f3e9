import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import optuna
import psutil
import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState, create_trial
from streamlit.testing.v1 import AppTest

import dashboard
from dashboard import actions, auth, layout, records_cache, serve
from dashboard.records_cache import plain
from dashboard.views import trials as trials_view
from search.record import lease
from search.record.records import read_study
from search.record.store import artifact_place, open_storage
from tests.dashboard.conftest import PlayedSearch, five_trials, twelve_trials
from trainables.config import TrialConfig
from trainables.errors import ConfigError

APP = Path(dashboard.__file__).with_name("app.py")
NASTY = "<script>alert(1)</script> **x** ![y](http://z) 🌱"
VIEWS = ("studies", *layout.SCREENS)
SPOKEN = ("title", "subheader", "markdown", "caption", "warning", "info")
LABELLED = (
    "metric",
    "button",
    "multiselect",
    "number_input",
    "text_input",
    "selectbox",
    "toggle",
    "select_slider",
    "expander",
    "page_link",
)


@pytest.fixture(autouse=True)
def only_look(monkeypatch):
    """Nobody may act, and nobody has to log in, unless a test says so."""
    for name in (auth.ACTIONS, auth.LOGIN):
        monkeypatch.setenv(name, "0")


@pytest.fixture
def acting(monkeypatch):
    monkeypatch.setenv(auth.ACTIONS, "1")


@pytest.fixture(scope="module")
def gallery(tmp_path_factory, unsynced_sqlite):
    """A storage with studies of every kind, for tests that only look."""
    root = tmp_path_factory.mktemp("gallery")
    url = f"sqlite:///{root}/studies.db"
    open_storage(url, create=True)
    optuna.create_study(study_name="foreign", storage=url)
    for name, config in {"old-fig": TrialConfig().model_dump(mode="json"), "odd-fig": {"wings": 2, "rate": 0.1}}.items():
        old_study(url, root, name, config)
    nasty = five_trials(PlayedSearch(url, root, NASTY, classes=(NASTY, "b")))
    actions_note(nasty, NASTY)
    wise = twelve_trials(PlayedSearch(url, root, "wise-fig", trials=12))
    wise.test_scores()
    five_trials(PlayedSearch(url, root, "calm-fig"))
    return url


@pytest.fixture
def looked_at(gallery, monkeypatch):
    monkeypatch.setenv("INJERTO_STORAGE", gallery)
    return gallery


def actions_note(search, text, number=None):
    about = {"trial": number, "text": text, "by": text, "at": "2026-01-01 00:00:00"}
    search.study.set_user_attr("note:1", about)


def old_study(url, root, name, config):
    """What the first version recorded: no ranges, no root, no accounts, no spans, histories in the attributes."""
    study = optuna.create_study(study_name=name, storage=url, direction="maximize")
    known = {"config": {}, "dataset": {}, "metric": "accuracy", "folder": str(root / name), "versions": {}}
    for key, value in known.items():
        study.set_user_attr(key, value)
    for number in range(6):
        study.add_trial(
            create_trial(
                state=TrialState.COMPLETE if number < 5 else TrialState.PRUNED,
                value=0.1 * number,
                params={"learning_rate": 0.001 * (number + 1)},
                distributions={"learning_rate": FloatDistribution(1e-4, 1.0, log=True)},
                intermediate_values={500: 0.1, 1000: 0.1 * number},
                user_attrs={"config": config, "epochs_planned": 2, "history": {"objective": [0.1, 0.1 * number]}},
            )
        )


def opened(view, name=None, **query):
    app = AppTest.from_file(str(APP), default_timeout=60).run()
    for key, value in ({} if name is None else {"study": name} | query).items():
        app.query_params[key] = value
    return checked(app.switch_page(f"views/{view}.py").run())


def study(name=None):
    return opened("study", name)


def checked(app):
    assert not app.exception, [error.value for error in app.exception]
    return app


def later(app):
    """The app at its next refresh."""
    time.sleep(records_cache.SHARED_SECONDS + 0.1)
    return checked(app.run())


def words(app):
    return "\n".join(element.value for kind in (*SPOKEN, "code") for element in getattr(app, kind))


def marked_up(app):
    """All texts of a screen in which Streamlit looks for Markdown."""
    spoken = [element.value for kind in SPOKEN for element in getattr(app, kind)]
    labels = [element.proto.label for kind in LABELLED for element in app.get(kind) if hasattr(element.proto, "label")]
    return [*spoken, *labels, *(bar.proto.text for bar in app.get("progress"))]


def button(app, label):
    return next(one for one in app.button if one.label == label)


def labels(app):
    return {one.label for one in app.button}


def links(app):
    return [link.proto.label for link in app.main.get("page_link")]


# Every screen, whatever it is shown


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("name", ["calm-fig", "wise-fig", "old-fig"])
def test_every_screen_opens(view, name, looked_at):
    app = opened(view, name)
    title = {"studies": "Studies", "study": plain(name)}.get(view) or layout.SCREENS[view]
    assert [one.value for one in app.title] == [title]
    assert app.query_params["study"] == name or app.query_params["study"] == [name]


@pytest.mark.parametrize("view", VIEWS)
def test_every_screen_opens_on_an_empty_storage(view, empty_storage):
    app = opened(view)
    said = app.info[0].value if view == "studies" else app.warning[0].value
    assert "Start one in a terminal" in said or "injerto search" in said
    assert app.code or view != "studies"


@pytest.mark.parametrize("view", layout.SCREENS)
def test_every_screen_says_that_a_study_is_of_another_program(view, looked_at):
    app = opened(view, "foreign")
    assert "was not made by injerto" in app.warning[0].value
    assert links(app) == ["All studies"]
    assert not app.title


@pytest.mark.parametrize("view", VIEWS)
def test_every_screen_opens_on_configurations_of_another_version(view, looked_at):
    app = opened(view, "odd-fig")
    assert len(app.title) == 1
    if view in ("study", "trial", "export"):
        assert "of another version of injerto" in app.warning[0].value


@pytest.mark.parametrize("view", VIEWS)
def test_no_name_is_markup_on_any_screen(view, looked_at):
    shown = marked_up(opened(view, NASTY, **{"with": "calm-fig"}))
    assert [text for text in shown if "<script" in text.replace("\\<", "") or "**x**" in text or "![y]" in text] == []
    assert any(plain(NASTY) in text for text in shown)


@pytest.mark.parametrize("view", layout.SCREENS)
def test_an_unknown_study_is_said_kindly(view, looked_at):
    app = opened(view, "calm-figs")
    assert "did you mean" in app.warning[0].value
    assert not app.title


@pytest.mark.parametrize("view", layout.SCREENS)
def test_every_screen_of_a_study_without_trials_opens(view, play):
    play("young-fig")
    app = opened(view, "young-fig")
    assert len(app.title) == 1


@pytest.mark.parametrize("view", VIEWS)
def test_those_who_must_log_in_see_nothing_else(view, looked_at, monkeypatch):
    monkeypatch.setenv(auth.LOGIN, "1")
    monkeypatch.setenv(auth.ACTIONS, "1")
    app = opened(view, "calm-fig")
    assert labels(app) == {"Log in"}
    assert [one.value for one in app.title] == ["Injerto"]
    assert not app.sidebar.get("page_link")
    assert not app.sidebar.selectbox
    assert "fig" not in words(app)
    for kind in ("metric", "dataframe", "plotly_chart", "page_link", "code"):
        assert len(app.main.get(kind)) == 0


@pytest.mark.parametrize("view", layout.SCREENS)
def test_a_study_that_is_deleted_under_the_page_is_said_kindly(view, played):
    app = opened(view, "calm-fig")
    optuna.delete_study(study_name="calm-fig", storage=played.url)
    assert later(app).warning[0].value
    assert not app.title


def test_the_sidebar_leads_to_every_screen_of_the_study_and_to_another(looked_at):
    app = opened("timeline", "wise-fig")
    protos = [link.proto for link in app.sidebar.get("page_link")]
    assert [proto.label for proto in protos] == ["Studies", *layout.SCREENS.values()]
    assert {proto.query_string for proto in protos[1:]} == {"study=wise-fig"}
    checked(app.sidebar.selectbox[0].set_value("calm-fig").run())
    assert app.query_params["study"] in ("calm-fig", ["calm-fig"])
    assert "calm" in words(app)


# Studies


def test_a_study_has_a_card_with_a_link(played):
    app = opened("studies")
    assert app.metric[0].value == "0.8"
    assert app.metric[0].delta == "+0.1"
    assert "2 finished" in words(app)
    assert "1 stopped" in words(app)
    link = app.main.get("page_link")[0].proto
    assert link.query_string == "study=calm-fig"


def test_a_study_of_another_program_is_said_and_the_others_are_shown(looked_at):
    app = opened("studies")
    assert "was not made by injerto" in words(app)
    assert len(app.metric) == 5


def test_names_are_shown_as_they_are(looked_at):
    assert study(NASTY).title[0].value == plain(NASTY)
    assert f"**{plain(NASTY)}** →" in links(opened("studies"))


def test_many_studies_are_shown_when_asked_for(empty_storage, tmp_path):
    for number in range(22):
        old_study(empty_storage, tmp_path, f"fig-{number}", {})
    app = opened("studies")
    assert len(app.metric) == 20
    assert len(checked(button(app, "Show all 22 studies").click().run()).metric) == 22


# Study


def test_the_study_screen_shows_headline_charts_words_and_failures(played):
    app = study("calm-fig")
    shown = {metric.label: metric.value for metric in app.metric}
    assert shown["best validation accuracy"] == "0.8"
    assert shown["gain over the default recipe"] == "+0.1"
    assert shown["trials"] == "4 of 8"
    assert app.metric[0].delta == "0.75 to 0.85"
    assert len(app.get("plotly_chart")) == 2
    assert list(app.dataframe[-1].value["message"]) == ["ValueError: <b>bad</b> luck"]
    assert "The best configuration: trial 1" in [element.value for element in app.subheader]
    assert "Take mobilenet\\_v3\\_small" in words(app)
    assert "Test scores come when the search has finished" in words(app)


def test_test_scores_appear_once_they_exist(played):
    played.test_scores()
    played.state("finished", "all 8 trials have ended")
    app = study("calm-fig")
    assert list(app.dataframe[0].value["accuracy"]) == [0.8125, 0.75]
    assert "all 8 trials have ended" in words(app)


def test_without_a_name_the_latest_study_is_shown_and_named_in_the_address(played):
    app = study()
    assert app.title[0].value == plain("calm-fig")
    assert app.query_params["study"] in ("calm-fig", ["calm-fig"])


def test_an_interrupted_study_says_how_to_go_on(played):
    played.state("interrupted", "interrupted by SIGINT")
    assert study("calm-fig").code[0].value == "injerto resume calm-fig"


@pytest.mark.parametrize("damage", ["gone", "broken"])
def test_lost_artifacts_leave_the_rest_of_the_study(played, damage):
    lose(played, damage)
    app = study("calm-fig")
    assert app.metric[0].value == "0.8"
    assert not app.metric[0].delta
    assert len(app.get("plotly_chart")) == 2
    assert len(app.dataframe) == 1


def lose(search, damage):
    if damage == "gone":
        shutil.rmtree(search.folder)
        return
    for path in Path(artifact_place(search.root)).iterdir():
        path.write_text("{")


def test_a_new_trial_is_seen_at_the_next_refresh(played):
    app = study("calm-fig")
    played.run(0.6, 0.7, 0.8, 0.95)
    assert later(app).metric[0].value == "0.95"


def test_a_zoom_outlives_new_trials_until_it_is_let_go(played):
    app = study("calm-fig")
    app.session_state["zoom-curves-calm-fig"] = {"x": [20, 60], "y": [0.2, 0.5]}
    played.run(0.6, 0.7, 0.8, 0.95)
    assert axes(later(app)) == ([20, 60], [0.2, 0.5])
    assert axes(checked(app.button(key="whole-curves-calm-fig").click().run())) == ([0, 102], None)


def axes(app):
    layout = json.loads(app.get("plotly_chart")[1].proto.spec)["layout"]
    return layout["xaxis"]["range"], layout["yaxis"].get("range")


# Trials


def trials_of(**query):
    return opened("trials", "calm-fig", **query)


def numbers(app):
    return list(app.dataframe[0].value["trial"])


def test_the_table_has_every_trial_and_what_came_of_it(looked_at):
    frame = trials_of().dataframe[0].value
    assert list(frame["state"]) == ["finished", "finished", "stopped", "failed", "running"]
    assert "node" not in frame.columns


def test_trials_are_filtered_by_state_and_the_address_says_so(looked_at):
    assert numbers(trials_of(state="stopped")) == [2]
    app = trials_of()
    checked(app.multiselect(key="state").set_value(["failed", "running"]).run())
    assert numbers(app) == [3, 4]
    assert "2 trials of 5" in words(app)


@pytest.mark.parametrize(("text", "found"), [("default recipe", [0]), ("BAD</b>", [3]), ("no such text", []), ("[", []), (".*", [])])
def test_trials_are_filtered_by_text(text, found, looked_at):
    app = trials_of(text=text)
    assert numbers(app) == found


def test_trials_are_filtered_by_the_range_of_a_number(looked_at):
    app = trials_of(by="value")
    checked(app.number_input(key="from-value").set_value(0.65).run())
    assert numbers(app) == [0, 1, 2]
    checked(app.number_input(key="to-value").set_value(0.85).run())
    assert numbers(app) == [0, 1]


def test_trials_are_filtered_by_choices(looked_at):
    whole = read_study("calm-fig", looked_at)
    app = trials_of(by="optimizer")
    checked(app.multiselect(key="among-optimizer").set_value(["sgd"]).run())
    assert numbers(app) == [trial.number for trial in whole.trials if trial.config["optimizer"] == "sgd"]


def test_trials_are_sorted_over_all_pages(looked_at):
    app = trials_of(sort="value")
    assert numbers(app) == [3, 4, 0, 1, 2]
    checked(app.toggle(key="down").set_value(True).run())
    assert numbers(app) == [2, 1, 0, 4, 3]


def pages():
    import streamlit as st

    from dashboard import records_cache
    from dashboard.views import trials

    st.query_params["study"] = "calm-fig"
    trials.draw(records_cache.study("calm-fig"))


def test_a_long_table_has_pages(looked_at, monkeypatch):
    monkeypatch.setattr(trials_view, "PAGE", 2)
    app = checked(AppTest.from_function(pages, default_timeout=60).run())
    page = app.number_input(key="page-calm-fig-3")
    assert page.label == "Page of 3"
    assert numbers(app) == [0, 1]
    checked(page.set_value(3).run())
    assert numbers(app) == [4]
    checked(app.multiselect(key="state").set_value(["finished"]).run())
    assert numbers(app) == [0, 1]
    assert app.number_input(key="page-calm-fig-1").label == "Page of 1"


def test_chosen_trials_are_compared(looked_at):
    app = trials_of()
    checked(app.multiselect(key="compared-calm-fig").set_value([0, 1]).run())
    assert list(app.dataframe[1].value.columns) == ["trial 0", "trial 1"]
    assert (app.dataframe[1].value["trial 0"] != app.dataframe[1].value["trial 1"]).all()
    assert len(app.get("plotly_chart")) == 1
    assert links(app) == ["trial 0 →", "trial 1 →"]


def test_columns_can_be_left_out(looked_at):
    app = trials_of()
    checked(app.multiselect(key="columns").set_value(["trial", "value"]).run())
    assert list(app.dataframe[0].value.columns) == ["trial", "value"]
    checked(app.multiselect(key="columns").set_value([]).run())
    assert list(app.dataframe[0].value.columns) == ["trial"]


# Trial


def trial_of(number=None, name="calm-fig"):
    return opened("trial", name, **({} if number is None else {"trial": number}))


def test_the_best_trial_is_shown_by_default_with_its_pictures(looked_at):
    app = trial_of()
    assert app.number_input[0].value == 1
    assert {metric.label: metric.value for metric in app.metric} == {
        "validation accuracy": "0.8",
        "epochs": "4 of 4",
        "time at work": "40 s",
        "peak memory": "0.50 GB",
        "parameters trained": "1.5 M",
        "node": "node\\-1",
    }
    assert len(app.get("plotly_chart")) == 3
    assert len(app.image) == 1
    assert "After epoch 4, on 200 validation images" in words(app)
    assert "said **a \\(97\\%\\)**  \nis **b**" in words(app)
    assert "off by 6.2 points" in words(app)
    assert any("epoch 4: objective 0.8" in code.value for code in app.code)


def test_a_trial_has_an_address(looked_at):
    app = trial_of("2")
    assert app.number_input[0].value == 2
    assert "rung 50\\% of its epochs" in words(app)
    assert links(app) == ["← trial 1", "trial 3 →", plain("the trial that was ahead: trial 0 →")]


def test_a_failed_trial_shows_its_error_as_it_is(looked_at):
    app = trial_of("3")
    assert "Traceback\nValueError: <b>bad</b> luck" in [code.value for code in app.code]
    assert plain("ValueError: <b>bad</b> luck") in app.expander[0].label


def test_a_running_trial_shows_what_it_has_saved(looked_at):
    app = trial_of("4")
    assert "After epoch 2" in words(app)
    assert len(app.get("plotly_chart")) == 3


@pytest.mark.parametrize("wanted", ["99", "-1", "two", "1.5", "", NASTY])
def test_a_wrong_trial_number_is_said_kindly(wanted, looked_at):
    app = trial_of(wanted)
    assert app.warning[0].value == plain(f"there is no trial {wanted} in calm-fig; this is trial 1")
    assert app.number_input[0].value == 1


@pytest.mark.parametrize("wanted", ["²", "9" * 5000])
def test_digits_that_are_no_number_are_said_kindly(wanted, looked_at):
    assert "there is no trial" in trial_of(wanted).warning[0].value


def test_another_trial_can_be_chosen(looked_at):
    app = trial_of("1")
    checked(app.number_input[0].set_value(0).run())
    assert app.query_params["trial"] in ("0", ["0"])
    assert "the default recipe" in words(app)


@pytest.mark.parametrize("damage", ["gone", "broken"])
def test_lost_artifacts_leave_the_rest_of_the_trial(played, damage):
    lose(played, damage)
    app = trial_of("1")
    assert "the history of trial 1" in app.warning[0].value
    assert app.metric[0].value == "0.8"
    assert "Take mobilenet\\_v3\\_small" in words(app)
    assert len(app.dataframe) == 1
    assert len(app.image) == 0


def test_a_trial_of_an_older_version_says_that_it_has_no_pictures(looked_at):
    app = trial_of("1", "old-fig")
    assert "there are no pictures of this trial" in app.warning[0].value
    assert len(app.get("plotly_chart")) == 1


# Space, augmentation, timeline, compare, export


def test_the_space_of_a_learnt_study_is_drawn(looked_at):
    app = opened("space", "wise-fig", across="dropout", up="head_layers")
    assert not app.warning
    assert len(app.get("plotly_chart")) == 4
    assert "12 finished trials use both parameters" in words(app)
    assert "matters most" in words(app)
    checked(app.segmented_control(key="by").set_value("fANOVA").run())
    assert "by fANOVA over 12 finished trials" in words(app)
    checked(app.segmented_control(key="as").set_value("rank").run())
    assert len(app.get("plotly_chart")) == 4


def test_a_space_of_which_little_is_known_says_so(looked_at):
    assert "5 are needed" in opened("space", "calm-fig").warning[0].value


def test_an_older_record_shows_its_space_without_importance(looked_at):
    app = opened("space", "old-fig")
    assert {"older version" in warning.value for warning in app.warning} == {True}
    assert len(app.get("plotly_chart")) == 2


def test_a_search_in_which_nothing_is_searched_has_a_space_screen(empty_storage, tmp_path):
    fixed = optuna.create_study(study_name="fixed-fig", storage=empty_storage, direction="maximize")
    known = {"config": {}, "dataset": {}, "metric": "accuracy", "folder": str(tmp_path), "versions": {}, "parameters": {}}
    for key, value in known.items():
        fixed.set_user_attr(key, value)
    fixed.add_trials([create_trial(value=0.1 * number, user_attrs={"config": {"rate": 0.1}}) for number in range(6)])
    assert opened("space", "fixed-fig").title[0].value == "Space"


def test_each_strength_has_its_images(looked_at):
    app = opened("augmentation", "wise-fig", strength="0.5")
    slider = app.select_slider(key="strength")
    assert [float(one) for one in slider.options] == [0.0, 0.5, 1.0]
    assert slider.value == 0.5
    before = app.image[0].proto.SerializeToString() if len(app.image) else b""
    checked(slider.set_value(1.0).run())
    assert app.image[0].proto.SerializeToString() != before
    assert plain("a/1.png: a") in words(app)
    assert len(app.get("plotly_chart")) == 1


def test_lost_images_leave_what_the_search_found(play):
    search = twelve_trials(play("wise-fig", trials=12))
    shutil.rmtree(artifact_place(search.root))
    app = opened("augmentation", "wise-fig")
    assert "is not at" in app.warning[0].value
    assert len(app.get("plotly_chart")) == 1


def test_the_timeline_shows_workers_and_nodes(looked_at):
    app = opened("timeline", "calm-fig")
    assert "2 workers (node and process)" in words(app)
    assert list(app.dataframe[0].value["node"]) == ["node-1", "node-2"]
    assert "GPU memory in use" not in app.dataframe[0].value.columns


def test_an_older_record_has_no_timeline(looked_at):
    app = opened("timeline", "old-fig")
    assert "No trial has told who worked on it" in words(app)
    assert "has not told of its nodes" in words(app)


def test_studies_are_compared_by_their_addresses(looked_at):
    app = opened("compare", "calm-fig", **{"with": "wise-fig"})
    assert list(app.dataframe[0].value.columns) == ["calm-fig", "wise-fig"]
    assert list(app.dataframe[0].value.loc["data"]) == ["", "the same"]
    assert len(app.get("plotly_chart")) == 1
    assert "They search the same space" in words(app)


@pytest.mark.parametrize("other", ["foreign", "old-fig"])
def test_a_study_that_cannot_be_compared_leaves_the_others(other, looked_at):
    app = opened("compare", "calm-fig")
    checked(app.multiselect(key="with").set_value([other, "wise-fig"]).run())
    assert {"calm-fig", "wise-fig"} <= set(app.dataframe[0].value.columns)
    assert ("was not made by injerto" in words(app)) == (other == "foreign")


def test_studies_without_an_ended_trial_can_be_compared(play):
    play("young-fig")
    play("late-fig")
    app = opened("compare", "young-fig", **{"with": "late-fig"})
    assert list(app.dataframe[0].value.loc["best value"]) == ["–", "–"]


def test_one_study_has_none_to_be_compared_with(played):
    assert "There is one study only" in opened("compare", "calm-fig").info[0].value


def test_the_export_has_the_recipe_and_the_commands(looked_at):
    app = opened("export", NASTY)
    codes = [code.value for code in app.code]
    assert "trial_number: 1" in codes[0]
    assert f"injerto best '{NASTY}' --json" in codes
    assert "They are written when the search has ended" in words(app).replace("\\", "")


def test_weights_that_are_here_can_be_downloaded(played):
    (played.folder / "best.safetensors").write_bytes(b"0" * 1_500_000)
    app = opened("export", "calm-fig")
    assert [one.proto.label for one in app.get("download_button")] == ["Download best.yaml", "Download best.safetensors"]
    assert "1.5 MB" in words(app)


# Actions and notes


OFFERED = {"Pause the search", "End it now", "Add", "Add the note", "Stop trial 4", "Run it next"}


@pytest.mark.parametrize("view", VIEWS)
def test_who_may_only_look_is_offered_no_action(view, looked_at):
    app = opened(view, "calm-fig", trial="4")
    assert not labels(app) & OFFERED
    assert not app.text_area


def test_who_may_act_is_offered_every_action(looked_at, acting):
    offered = labels(opened("study", "calm-fig")) | labels(opened("trial", "calm-fig", trial="4"))
    assert offered >= OFFERED


def asked(search):
    return list(search.attributes("command:").values())


@pytest.mark.parametrize(("label", "command"), [("Pause the search", "pause"), ("End it now", "finish")])
def test_a_button_asks_the_driver(label, command, played, acting):
    app = checked(button(study("calm-fig"), label).click().run())
    (request,) = asked(played)
    assert request["do"] == command
    assert socket.gethostname() in request["by"]
    assert "the driver has not answered yet" in app.info[0].value.replace("\\", "")
    lease.answer(played.study, next(iter(lease.commands(played.study))), "done, **x**")
    assert plain("done, **x**") in later(app).info[0].value


def test_a_running_trial_can_be_stopped_and_an_ended_one_cannot(played, acting):
    app = trial_of("4")
    checked(button(app, "Stop trial 4").click().run())
    assert [(request["do"], request["trial"]) for request in asked(played)] == [("stop trial", 4)]
    assert "Stop trial 1" not in labels(trial_of("1"))


def test_trials_can_be_added(played, acting):
    app = study("calm-fig")
    assert app.text_input(key="add-time").disabled
    app.number_input(key="add-trials").set_value(5)
    checked(button(app, "Add").click().run())
    assert [(request["do"], request["trials"], request["seconds"]) for request in asked(played)] == [("add", 5, 0.0)]


@pytest.mark.parametrize(("time", "seconds"), [("30m", [1800.0]), ("soon", []), ("-5", [])])
def test_time_can_be_added_where_time_is_limited(time, seconds, played, acting):
    config = played.study.user_attrs["config"]
    played.study.set_user_attr("config", config | {"budget": config["budget"] | {"time": 3600.0}})
    app = study("calm-fig")
    app.text_input(key="add-time").set_value(time)
    checked(button(app, "Add").click().run())
    assert [request["seconds"] for request in asked(played)] == seconds
    assert bool(seconds) != any(plain(time) in warning.value for warning in app.warning)


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_configuration_that_is_asked_for_unchanged_is_the_trials_own(number, played, acting):
    app = trial_of(str(number))
    checked(button(app, "Run it next").click().run())
    (request,) = asked(played)
    assert request["do"] == "enqueue"
    assert played.bridge._space.checked(request["params"]) == played.study.trials[number].params


def test_a_configuration_is_asked_for_as_it_was_changed(played, acting):
    app = trial_of("1")
    app.selectbox(key="enqueue-1-optimizer").set_value("sgd")
    app.number_input(key="enqueue-1-dropout").set_value(0.3)
    checked(button(app, "Run it next").click().run())
    params = played.bridge._space.checked(asked(played)[0]["params"])
    assert params["optimizer"] == "sgd"
    assert params["dropout"] == 0.3


def test_a_search_that_does_not_run_can_be_asked_nothing(played, acting):
    played.state("interrupted", "by hand")
    app = study("calm-fig")
    assert not labels(app) & (OFFERED - {"Add the note"})
    assert "The search does not run" in words(app)
    assert not labels(trial_of("1")) & (OFFERED - {"Add the note"})


NOTE = "<img src=x onerror=alert(1)> **bold** :red[x] 🌱\n\nsecond line"


@pytest.mark.parametrize("number", [None, 1])
def test_a_note_is_kept_as_it_was_written_and_shown_as_it_is(number, played, acting):
    app = study("calm-fig") if number is None else trial_of("1")
    app.text_area(key=f"note-text-{number}").set_value(NOTE)
    checked(button(app, "Add the note").click().run())
    (note,) = played.attributes("note:").values()
    assert note["text"] == NOTE
    assert note["trial"] == number
    shown = later(app)
    assert any(plain(NOTE) in text for text in marked_up(shown))
    assert not any("<img" in text.replace("\\<", "") or "**bold**" in text for text in marked_up(shown))


def test_an_empty_note_is_none(played, acting):
    app = study("calm-fig")
    app.text_area(key="note-text-None").set_value("  \n ")
    checked(button(app, "Add the note").click().run())
    assert played.attributes("note:") == {}


def test_notes_are_shown_where_they_belong_to_those_who_only_look(played):
    actions.write_note("calm-fig", 1, "of the trial")
    actions.write_note("calm-fig", None, "of the study")
    assert ("of the study" in words(study("calm-fig")), "of the trial" in words(study("calm-fig"))) == (True, False)
    assert "of the trial" in words(trial_of("1"))
    assert "of the" not in words(trial_of("0")).replace("of the epochs", "").partition("Notes")[2]


def test_a_long_note_is_cut(played):
    actions.write_note("calm-fig", None, "x" * 5000)
    (note,) = played.attributes("note:").values()
    assert note["text"] == "x" * actions.LONGEST_NOTE


def test_an_action_on_a_deleted_study_is_said_kindly(played, acting):
    app = study("calm-fig")
    optuna.delete_study(study_name="calm-fig", storage=played.url)
    checked(button(app, "Pause the search").click().run())
    assert app.warning


# Storage and server


def test_a_storage_that_goes_away_is_said_kindly(played, tmp_path):
    app = study("calm-fig")
    for file in tmp_path.glob("studies.db*"):
        file.unlink()
    assert "no studies at" in later(app).warning[0].value


@pytest.mark.parametrize("view", VIEWS)
def test_a_broken_storage_is_said_kindly(view, tmp_path, monkeypatch):
    (tmp_path / "broken.db").write_bytes(b"this is no database" * 100)
    monkeypatch.setenv("INJERTO_STORAGE", f"sqlite:///{tmp_path}/broken.db")
    assert "cannot open the storage" in opened(view).warning[0].value


def test_nothing_here_imports_torch_or_ray():
    modules = [path.relative_to(APP.parents[1]).with_suffix("") for path in APP.parent.rglob("*.py")]
    names = [".".join(module.parts).removesuffix(".__init__") for module in modules]
    assert len(names) >= 25
    code = f"import sys, {', '.join(names)}; print([m for m in ('torch', 'ray') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=APP.parents[1], check=True)
    assert done.stdout.strip() == "[]"


def test_every_screen_has_a_file_and_every_file_a_screen():
    assert {path.stem for path in layout.VIEWS.glob("*.py")} == {*VIEWS, "__init__"}


def test_a_taken_or_impossible_port_is_refused():
    with socket.socket() as other:
        other.bind((auth.LOOPBACK, 0))
        other.listen()
        with pytest.raises(ConfigError, match=r"is taken.*--port"):
            serve.require_free(other.getsockname()[1])
    with pytest.raises(ConfigError, match="from 1 to 65535"):
        serve.require_free(70000)
    with pytest.raises(ConfigError, match=r"cannot be used.*--address"):
        serve.require_free(8501, "203.0.113.1")


def test_the_command_serves_on_this_machine_only(played):
    with socket.socket() as probe:
        probe.bind((auth.LOOPBACK, 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "search.cli", "dashboard", "--storage", played.url, "--port", str(port)]
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=APP.parents[1], env=environment)
    try:
        assert server.stdout is not None
        assert server.stdout.readline() == f"dashboard: http://127.0.0.1:{port} (Ctrl-C ends it)\n"
        assert answer(f"http://127.0.0.1:{port}/_stcore/health") == "ok"
        assert {c.laddr.ip for c in psutil.Process(server.pid).net_connections("inet") if c.status == "LISTEN"} == {"127.0.0.1"}
    finally:
        server.send_signal(signal.SIGINT)
        rest, _ = server.communicate(timeout=10)
    assert "Traceback" not in rest


def answer(url, patience=30.0):
    deadline = time.monotonic() + patience
    while True:
        try:
            return urllib.request.urlopen(url, timeout=2).read().decode()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
