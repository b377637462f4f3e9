import pytest
from streamlit.testing.v1 import AppTest

from dashboard.views import trials as trials_view
from search.record.reader import read_study
from tests.dashboard.screens import all_text, link_labels, open_trials, without_errors


def numbers(app):
    return list(app.dataframe[0].value["trial"])


def test_the_table_has_every_trial_and_its_state(gallery_storage):
    frame = open_trials().dataframe[0].value
    assert list(frame["state"]) == ["finished", "finished", "stopped", "failed", "running"]
    assert "node" not in frame.columns


def test_trials_are_filtered_by_state_in_the_address_or_by_hand(gallery_storage):
    assert numbers(open_trials(state="stopped")) == [2]
    app = open_trials()
    without_errors(app.multiselect(key="state").set_value(["failed", "running"]).run())
    assert numbers(app) == [3, 4]
    assert "2 trials of 5" in all_text(app)


@pytest.mark.parametrize(("text", "found"), [("default recipe", [0]), ("BAD</b>", [3]), ("no such text", []), ("[", []), (".*", [])])
def test_trials_are_filtered_by_text(text, found, gallery_storage):
    app = open_trials(text=text)
    assert numbers(app) == found


def test_trials_are_filtered_by_the_range_of_a_number(gallery_storage):
    app = open_trials(by="value")
    without_errors(app.number_input(key="from-value").set_value(0.65).run())
    assert numbers(app) == [0, 1, 2]
    without_errors(app.number_input(key="to-value").set_value(0.85).run())
    assert numbers(app) == [0, 1]


def test_trials_are_filtered_by_choices(gallery_storage):
    whole = read_study("calm-fig", gallery_storage)
    app = open_trials(by="optimizer")
    without_errors(app.multiselect(key="among-optimizer").set_value(["sgd"]).run())
    assert numbers(app) == [trial.number for trial in whole.trials if trial.config["optimizer"] == "sgd"]


def test_trials_are_sorted_over_all_pages(gallery_storage):
    app = open_trials(sort="value")
    assert numbers(app) == [3, 4, 0, 1, 2]
    without_errors(app.toggle(key="down").set_value(True).run())
    assert numbers(app) == [2, 1, 0, 4, 3]


def pages():
    import streamlit as st

    from dashboard import records_cache
    from dashboard.views import trials

    st.query_params["study"] = "calm-fig"
    trials.draw(records_cache.study("calm-fig"))


def test_a_long_table_has_pages(gallery_storage, monkeypatch):
    monkeypatch.setattr(trials_view, "PAGE_ROWS", 2)
    app = without_errors(AppTest.from_function(pages, default_timeout=60).run())
    page = app.number_input(key="page-calm-fig-3")
    assert page.label == "Page of 3"
    assert numbers(app) == [0, 1]
    without_errors(page.set_value(3).run())
    assert numbers(app) == [4]
    without_errors(app.multiselect(key="state").set_value(["finished"]).run())
    assert numbers(app) == [0, 1]
    assert app.number_input(key="page-calm-fig-1").label == "Page of 1"


def test_selected_trials_are_compared(gallery_storage):
    app = open_trials()
    without_errors(app.multiselect(key="compared-calm-fig").set_value([0, 1]).run())
    assert list(app.dataframe[1].value.columns) == ["trial 0", "trial 1"]
    assert (app.dataframe[1].value["trial 0"] != app.dataframe[1].value["trial 1"]).all()
    assert len(app.get("plotly_chart")) == 1
    assert link_labels(app) == ["trial 0 →", "trial 1 →"]


def test_columns_can_be_hidden(gallery_storage):
    app = open_trials()
    without_errors(app.multiselect(key="columns").set_value(["trial", "value"]).run())
    assert list(app.dataframe[0].value.columns) == ["trial", "value"]
    without_errors(app.multiselect(key="columns").set_value([]).run())
    assert list(app.dataframe[0].value.columns) == ["trial"]
