"""All screens: that they open, and what they show instead of a study that cannot be shown."""

import optuna
import pytest

from dashboard import auth, layout
from dashboard.markdown_text import escape
from tests.dashboard.screens import (
    NASTY,
    VIEWS,
    after_refresh,
    all_text,
    button_labels,
    link_labels,
    markdown_texts,
    open_screen,
    open_study,
    some_quick,
    warnings,
    without_errors,
)

EXPECTED_WARNINGS = {
    ("space", "calm-fig"): ["5 are needed to analyze the space"],
    ("augmentation", "calm-fig"): ["5 are needed to compare strengths"],
    ("trial", "old-fig"): ["this trial has no predictions to show"],
    ("space", "old-fig"): ["recorded it without the ranges"],
}
"""Screen and study → a part of each warning that the screen must show; all others show none."""


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("name", ["calm-fig", "wise-fig", "old-fig"])
def test_every_screen_opens(view, name, gallery_storage):
    app = open_screen(view, name)
    title = {"studies": "Studies", "study": escape(name)}.get(view) or layout.SCREENS[view]
    assert [one.value for one in app.title] == [title]
    assert_warnings(app, EXPECTED_WARNINGS.get((view, name), []))
    assert app.query_params["study"] == name or app.query_params["study"] == [name]


def assert_warnings(app, expected):
    shown = warnings(app)
    assert len(shown) == len(expected), shown
    for text, part in zip(shown, expected, strict=True):
        assert escape(part) in text


@pytest.mark.parametrize("view", some_quick(VIEWS))
def test_every_screen_opens_on_an_empty_storage(view, empty_storage):
    app = open_screen(view)
    text = app.info[0].value if view == "studies" else app.warning[0].value
    assert "Start one in a terminal" in text or "injerto search" in text
    assert app.code or view != "studies"


@pytest.mark.parametrize("view", some_quick(layout.SCREENS))
def test_every_screen_names_a_study_of_another_program(view, gallery_storage):
    app = open_screen(view, "foreign")
    assert "was not made by injerto" in app.warning[0].value
    assert link_labels(app) == ["All studies"]
    assert not app.title


@pytest.mark.parametrize("view", VIEWS)
def test_every_screen_opens_on_configurations_of_another_version(view, gallery_storage):
    app = open_screen(view, "odd-fig", unreadable=True)
    assert len(app.title) == 1
    if view in ("study", "trial", "export"):
        assert "of another version of injerto" in app.warning[0].value


@pytest.mark.parametrize("view", VIEWS)
def test_markup_in_names_is_escaped_on_every_screen(view, gallery_storage):
    shown = markdown_texts(open_screen(view, NASTY, **{"with": "calm-fig"}))
    assert [text for text in shown if "<script" in text.replace("\\<", "") or "**x**" in text or "![y]" in text] == []
    assert any(escape(NASTY) in text for text in shown)


@pytest.mark.parametrize("view", some_quick(layout.SCREENS))
def test_every_screen_suggests_a_name_for_an_unknown_study(view, gallery_storage):
    app = open_screen(view, "calm-figs")
    assert "did you mean" in app.warning[0].value
    assert not app.title


WITHOUT_TRIALS = {
    "space": ["5 are needed to analyze the space"],
    "trial": ["this trial has no predictions to show"],
    "augmentation": ["5 are needed to compare strengths"],
}
"""Screen → a part of each warning that it must show for a study without trials."""


@pytest.mark.parametrize("view", layout.SCREENS)
def test_every_screen_of_a_study_without_trials_opens(view, gallery_storage):
    app = open_screen(view, "young-fig")
    assert len(app.title) == 1
    assert_warnings(app, WITHOUT_TRIALS.get(view, []))


@pytest.mark.parametrize("view", some_quick(VIEWS))
def test_before_the_login_a_viewer_sees_only_the_login(view, gallery_storage, monkeypatch):
    monkeypatch.setenv(auth.LOGIN_VARIABLE, "1")
    monkeypatch.setenv(auth.ACTIONS_VARIABLE, "1")
    app = open_screen(view, "calm-fig")
    assert button_labels(app) == {"Log in"}
    assert [one.value for one in app.title] == ["Injerto"]
    assert not app.sidebar.get("page_link")
    assert not app.sidebar.selectbox
    assert "fig" not in all_text(app)
    for kind in ("metric", "dataframe", "plotly_chart", "page_link", "code"):
        assert len(app.main.get(kind)) == 0


@pytest.mark.parametrize("view", some_quick(layout.SCREENS))
def test_an_open_screen_warns_when_its_study_is_deleted(view, played):
    app = open_screen(view, "calm-fig")
    optuna.delete_study(study_name="calm-fig", storage=played.url)
    assert_warnings(after_refresh(app), ["this study is gone"])
    assert not app.title


def test_the_sidebar_links_to_every_screen_and_to_other_studies(gallery_storage):
    app = open_screen("timeline", "wise-fig")
    protos = [link.proto for link in app.sidebar.get("page_link")]
    assert [proto.label for proto in protos] == ["Studies", *layout.SCREENS.values()]
    assert {proto.query_string for proto in protos[1:]} == {"study=wise-fig"}
    without_errors(app.sidebar.selectbox[0].set_value("calm-fig").run())
    assert app.query_params["study"] in ("calm-fig", ["calm-fig"])
    assert "calm" in all_text(app)


def test_an_open_screen_warns_when_its_storage_is_removed(played, tmp_path):
    app = open_study("calm-fig")
    for file in tmp_path.glob("studies.db*"):
        file.unlink()
    assert "no studies at" in after_refresh(app).warning[0].value


@pytest.mark.parametrize("view", some_quick(VIEWS))
def test_every_screen_warns_of_a_broken_storage(view, tmp_path, monkeypatch):
    (tmp_path / "broken.db").write_bytes(b"this is no database" * 100)
    monkeypatch.setenv("INJERTO_STORAGE", f"sqlite:///{tmp_path}/broken.db")
    assert "cannot open the storage" in open_screen(view).warning[0].value


def test_screens_and_files_correspond():
    assert {path.stem for path in layout.VIEWS.glob("*.py")} == {*VIEWS, "__init__"}
