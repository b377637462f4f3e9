import pytest

from dashboard.markdown_text import escape
from tests.dashboard.screens import after_refresh, all_text, damage_artifacts, open_study


def test_the_study_screen_shows_tiles_charts_sentences_and_failures(played):
    app = open_study("calm-fig")
    shown = {metric.label: metric.value for metric in app.metric}
    assert shown["best validation accuracy"] == "0.8"
    assert shown["gain over the default recipe"] == "+0.1"
    assert shown["trials"] == "4 of 8"
    assert app.metric[0].delta == "0.75 to 0.85"
    assert len(app.get("plotly_chart")) == 2
    assert list(app.dataframe[-1].value["message"]) == ["ValueError: <b>bad</b> luck"]
    assert "The best configuration: trial 1" in [element.value for element in app.subheader]
    assert "Backbone\\: mobilenet\\_v3\\_small" in all_text(app)
    assert "The test split is evaluated once" in all_text(app)


def test_test_scores_appear_when_the_search_has_finished(played):
    played.test_scores()
    played.state("finished", "all 8 trials have ended")
    app = open_study("calm-fig")
    assert list(app.dataframe[0].value["accuracy"]) == [0.8125, 0.75]
    assert "all 8 trials have ended" in all_text(app)


def test_without_a_name_the_latest_study_is_shown_and_added_to_the_address(played):
    app = open_study()
    assert app.title[0].value == escape("calm-fig")
    assert app.query_params["study"] in ("calm-fig", ["calm-fig"])


def test_an_interrupted_study_shows_the_resume_command(played):
    played.state("interrupted", "interrupted by SIGINT")
    assert open_study("calm-fig").code[0].value == "injerto resume calm-fig"


@pytest.mark.parametrize("damage", ["gone", "broken"])
def test_lost_artifacts_do_not_hide_the_rest_of_the_study(played, damage):
    damage_artifacts(played, damage)
    app = open_study("calm-fig")
    assert app.metric[0].value == "0.8"
    assert not app.metric[0].delta
    assert len(app.get("plotly_chart")) == 2
    assert len(app.dataframe) == 1


def test_a_new_trial_is_shown_at_the_next_refresh(played):
    app = open_study("calm-fig")
    played.run(0.6, 0.7, 0.8, 0.95)
    assert after_refresh(app).metric[0].value == "0.95"
