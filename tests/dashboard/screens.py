"""The screens as Streamlit's test runner shows them: how to open one, and what it shows."""

import shutil
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

import dashboard
from dashboard import layout
from dashboard.record_errors import UNREADABLE_PART
from search.record.artifacts import artifact_location

APP = Path(dashboard.__file__).with_name("app.py")
NASTY = "<script>alert(1)</script> **x** ![y](http://z) 🌱"
"""A name that is markup, in HTML and in Markdown."""
VIEWS = ("studies", *layout.SCREENS)
QUICK = ("studies", "study", "trial")
TEXT_ELEMENTS = ("title", "subheader", "markdown", "caption", "warning", "info")
LABELLED_ELEMENTS = (
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


def some_quick(views):
    """Return the screens as parameters, of which only those in `QUICK` are not slow: for tests of code that all screens share."""
    return [view if view in QUICK else pytest.param(view, marks=pytest.mark.slow) for view in views]


def open_screen(view, name=None, *, unreadable=False, **query):
    """Open a screen by its address; `unreadable`: a part of the record may be one that cannot be shown."""
    app = AppTest.from_file(str(APP), default_timeout=60)
    for key, value in ({} if name is None else {"study": name} | query).items():
        app.query_params[key] = value
    return without_errors((app if view == "studies" else app.switch_page(f"views/{view}.py")).run(), unreadable=unreadable)


def open_study(name=None):
    return open_screen("study", name)


def open_trial(number=None, name="calm-fig"):
    return open_screen("trial", name, **({} if number is None else {"trial": number}))


def open_trials(**query):
    return open_screen("trials", "calm-fig", **query)


def without_errors(app, *, unreadable=False):
    """Return the app; fail if it shows an exception, or, unless `unreadable`, a part of the record that cannot be shown."""
    assert not app.exception, [error.value for error in app.exception]
    if not unreadable:
        assert [text for text in warnings(app) if UNREADABLE_PART in text.replace("\\", "")] == []
    return app


def warnings(app):
    return [warning.value for warning in app.warning]


def after_refresh(app):
    """Return the app after its next refresh."""
    return without_errors(app.run())


def all_text(app):
    return "\n".join(element.value for kind in (*TEXT_ELEMENTS, "code") for element in getattr(app, kind))


def markdown_texts(app):
    """Return all texts of a screen that Streamlit interprets as Markdown."""
    texts = [element.value for kind in TEXT_ELEMENTS for element in getattr(app, kind)]
    labels = [element.proto.label for kind in LABELLED_ELEMENTS for element in app.get(kind) if hasattr(element.proto, "label")]
    return [*texts, *labels, *(bar.proto.text for bar in app.get("progress"))]


def button(app, label):
    return next(one for one in app.button if one.label == label)


def button_labels(app):
    return {one.label for one in app.button}


def link_labels(app):
    return [link.proto.label for link in app.main.get("page_link")]


def damage_artifacts(search, damage):
    """Remove a search's artifacts ("gone"), or make them invalid JSON ("broken")."""
    if damage == "gone":
        shutil.rmtree(search.folder)
        return
    for path in Path(artifact_location(search.root)).iterdir():
        path.write_text("{")
