import optuna
from optuna.trial import create_trial

from tests.dashboard.screens import all_text, open_screen, without_errors


def test_the_space_of_a_finished_study_is_drawn(gallery_storage):
    app = open_screen("space", "wise-fig", across="augmentation_strength", up="head_layers")
    assert not app.warning
    assert len(app.get("plotly_chart")) == 4
    assert "12 finished trials use both parameters" in all_text(app)
    assert "matters most" in all_text(app)
    without_errors(app.segmented_control(key="by").set_value("fANOVA").run())
    assert "by fANOVA over 12 finished trials" in all_text(app)
    without_errors(app.segmented_control(key="as").set_value("rank").run())
    assert len(app.get("plotly_chart")) == 4


def test_the_space_needs_five_finished_trials(gallery_storage):
    assert "5 are needed" in open_screen("space", "calm-fig").warning[0].value


def test_an_older_record_shows_its_space_without_importance(gallery_storage):
    app = open_screen("space", "old-fig")
    assert {"older version" in warning.value for warning in app.warning} == {True}
    assert len(app.get("plotly_chart")) == 2


def test_a_study_without_searched_parameters_has_a_space_screen(empty_storage, tmp_path):
    fixed = optuna.create_study(study_name="fixed-fig", storage=empty_storage, direction="maximize")
    known = {"config": {}, "dataset": {}, "metric": "accuracy", "folder": str(tmp_path), "versions": {}, "parameters": {}}
    for key, value in known.items():
        fixed.set_user_attr(key, value)
    fixed.add_trials([create_trial(value=0.1 * number, user_attrs={"config": {"rate": 0.1}}) for number in range(6)])
    assert open_screen("space", "fixed-fig").title[0].value == "Space"
