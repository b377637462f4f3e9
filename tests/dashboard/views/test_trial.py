import pytest

from dashboard.markdown_text import escape
from tests.dashboard.played_search import RESTART
from tests.dashboard.screens import NASTY, all_text, damage_artifacts, link_labels, open_trial, without_errors


def test_the_best_trial_is_shown_by_default_with_its_predictions(gallery_storage):
    app = open_trial()
    assert app.number_input[0].value == 1
    assert {metric.label: metric.value for metric in app.metric} == {
        "validation accuracy": "0.8",
        "epochs": "4 of 4",
        "time spent": "40 s",
        "peak memory": "0.50 GB",
        "parameters trained": "1.5 M",
        "node": "node\\-1",
    }
    assert len(app.get("plotly_chart")) == 3
    assert len(app.image) == 1
    assert "After epoch 4, on 200 validation images" in all_text(app)
    assert "predicted **a \\(97\\%\\)**  \ntrue **b**" in all_text(app)
    assert "off by 6.2 points" in all_text(app)
    assert any("epoch 4: objective 0.8" in code.value for code in app.code)


def test_the_trial_of_the_address_is_shown(gallery_storage):
    app = open_trial("2")
    assert app.number_input[0].value == 2
    assert "rung 50\\% of its epochs" in all_text(app)
    assert escape(RESTART) in all_text(app)
    assert link_labels(app) == ["← trial 1", "trial 3 →", escape("the best trial at that rung: trial 0 →")]


def test_a_failed_trial_shows_its_error_unchanged(gallery_storage):
    app = open_trial("3")
    assert "Traceback\nValueError: <b>bad</b> luck" in [code.value for code in app.code]
    assert escape("ValueError: <b>bad</b> luck") in app.expander[0].label


def test_a_running_trial_shows_its_latest_saved_predictions(gallery_storage):
    app = open_trial("4")
    assert "After epoch 2" in all_text(app)
    assert len(app.get("plotly_chart")) == 3


@pytest.mark.parametrize("wanted", ["99", "-1", "two", "1.5", "", NASTY])
def test_an_unknown_trial_number_is_a_warning(wanted, gallery_storage):
    app = open_trial(wanted)
    assert app.warning[0].value == escape(f"there is no trial {wanted} in calm-fig; this is trial 1")
    assert app.number_input[0].value == 1


@pytest.mark.parametrize("wanted", ["²", "9" * 5000])
def test_unusual_digits_in_a_trial_number_are_a_warning(wanted, gallery_storage):
    assert "there is no trial" in open_trial(wanted).warning[0].value


def test_another_trial_can_be_chosen(gallery_storage):
    app = open_trial("1")
    without_errors(app.number_input[0].set_value(0).run())
    assert app.query_params["trial"] in ("0", ["0"])
    assert "the default recipe" in all_text(app)


@pytest.mark.parametrize("damage", ["gone", "broken"])
def test_lost_artifacts_do_not_hide_the_rest_of_the_trial(played, damage):
    damage_artifacts(played, damage)
    app = open_trial("1")
    assert "the history of trial 1" in app.warning[0].value
    assert app.metric[0].value == "0.8"
    assert "Backbone\\: mobilenet\\_v3\\_small" in all_text(app)
    assert len(app.dataframe) == 1
    assert len(app.image) == 0


def test_a_trial_of_an_older_version_has_no_predictions(gallery_storage):
    app = open_trial("1", "old-fig")
    assert "this trial has no predictions to show" in app.warning[0].value
    assert len(app.get("plotly_chart")) == 1
