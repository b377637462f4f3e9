import shutil

from dashboard.markdown_text import escape
from search.record.artifacts import artifact_location
from tests.dashboard.played_search import twelve_trials
from tests.dashboard.screens import all_text, open_screen, without_errors


def test_the_slider_shows_the_images_of_a_strength(gallery_storage):
    app = open_screen("augmentation", "wise-fig", strength="0.5")
    slider = app.select_slider(key="strength")
    assert [float(one) for one in slider.options] == [0.0, 0.5, 1.0]
    assert slider.value == 0.5
    before = app.image[0].proto.SerializeToString() if len(app.image) else b""
    without_errors(slider.set_value(1.0).run())
    assert app.image[0].proto.SerializeToString() != before
    assert escape("a/1.png: a") in all_text(app)
    assert len(app.get("plotly_chart")) == 1


def test_lost_images_do_not_hide_the_value_by_strength(play):
    search = twelve_trials(play("wise-fig", trials=12))
    shutil.rmtree(artifact_location(search.root))
    app = open_screen("augmentation", "wise-fig")
    assert "is not at" in app.warning[0].value
    assert len(app.get("plotly_chart")) == 1
