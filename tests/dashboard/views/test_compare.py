import pytest

from tests.dashboard.screens import all_text, open_screen, without_errors


def test_the_studies_of_the_address_are_compared(gallery_storage):
    app = open_screen("compare", "calm-fig", **{"with": "wise-fig"})
    assert list(app.dataframe[0].value.columns) == ["calm-fig", "wise-fig"]
    assert list(app.dataframe[0].value.loc["data"]) == ["", "the same"]
    assert len(app.get("plotly_chart")) == 1
    assert "These studies search the same space" in all_text(app)


@pytest.mark.parametrize("other", ["foreign", "old-fig"])
def test_a_study_that_cannot_be_read_does_not_hide_the_others(other, gallery_storage):
    app = open_screen("compare", "calm-fig")
    without_errors(app.multiselect(key="with").set_value([other, "wise-fig"]).run())
    assert {"calm-fig", "wise-fig"} <= set(app.dataframe[0].value.columns)
    assert ("was not made by injerto" in all_text(app)) == (other == "foreign")


def test_studies_without_an_ended_trial_can_be_compared(play):
    play("young-fig")
    play("late-fig")
    app = open_screen("compare", "young-fig", **{"with": "late-fig"})
    assert list(app.dataframe[0].value.loc["best value"]) == ["–", "–"]


def test_a_single_study_cannot_be_compared(played):
    assert "There is only one study" in open_screen("compare", "calm-fig").info[0].value
