import dataclasses
import html
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from plotly.offline import get_plotlyjs

from dashboard import report
from search.record.artifacts import artifact_location
from search.record.reader import read_study
from tests.dashboard.played_search import PlayedSearch, five_trials
from tests.dashboard.records import failed, older, study, trial
from trainables.errors import ConfigError, ResourceError

NASTY = "<script>alert(1)</script>"


class Tags(HTMLParser):
    """The tags of a page with their attributes."""

    def __init__(self, page):
        super().__init__()
        self.found = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))


def without_plotly(page):
    """Return a page without Plotly's own script."""
    assert get_plotlyjs() in page
    return page.replace(get_plotlyjs(), "")


def sections(page):
    return [html.unescape(title) for title in re.findall("<h2>(.*?)</h2>", page)]


@pytest.fixture(scope="module")
def page(record):
    return without_plotly(report.report_html(record))


@pytest.fixture(scope="module")
def nasty(tmp_path_factory, unsynced_sqlite):
    root = tmp_path_factory.mktemp("nasty")
    search = PlayedSearch(f"sqlite:///{root}/studies.db", root, NASTY, classes=(NASTY, "b & 🌱"))
    five_trials(search)
    search.state("failed", f"because of {NASTY}")
    return read_study(search.name, search.url)


def test_the_report_has_the_figures_and_the_numbers(page):
    assert sections(page) == [
        "Best so far",
        "Learning curves",
        "Leaders",
        "The best configuration: trial 1",
        "Predictions on the validation images",
        "Failures",
    ]
    assert page.count("Plotly.newPlot(") == 4
    for words in (
        "<dt>best validation accuracy</dt><dd>0.8 (0.75 to 0.85)</dd>",
        "<dt>gain over the default recipe</dt><dd>+0.1</dd>",
        "<dt>trials</dt><dd>2 finished, 1 stopped, 1 failed, 1 running</dd>",
        "multiclass, 2 classes · 1,000 train, 200 validation, 200 test images at 32 px",
        "Backbone: mobilenet_v3_small",
        "trial_number: 1",
        "ValueError: &lt;b&gt;bad&lt;/b&gt; luck",
        "<b>a (97%)</b>, true <b>b</b>",
        "injerto 0.1.0",
    ):
        assert words in page


def test_the_report_has_test_scores_once_they_exist(record):
    scores = {"winner": {"test": {"accuracy": 0.8125}}, "default_recipe": {"test": {"accuracy": 0.75}}}
    page = report.report_html(dataclasses.replace(record, test=scores))
    assert "On the test images" in sections(page)
    assert "<td>0.8125</td>" in page


def test_the_report_has_the_importance_for_enough_trials(learnt):
    page = report.report_html(learnt)
    assert "Importance of parameters" in sections(page)
    assert "by PED-ANOVA over 12 finished trials" in page


def test_the_leaders_are_sorted_by_value(learnt):
    cells = re.findall(r"<tr>\s*<td>(\d+)</td>\s*<td>([\d.]+)</td>", report.report_html(learnt))
    values = [float(value) for _, value in cells]
    assert len(values) == report.LEADERS
    assert values == sorted(values, reverse=True)


def test_the_worst_images_are_embedded_in_the_report(page):
    (worst,) = [about for tag, about in Tags(page).found if tag == "img"]
    assert worst["src"].startswith("data:image/jpeg;base64,/9j/")


def test_the_report_loads_nothing_and_its_policy_forbids_it(page):
    tags = Tags(page).found
    places = [value for _, about in tags for name, value in about.items() if name in ("src", "href", "srcset", "data", "action")]
    assert all(place.startswith("data:") for place in places)
    assert not [tag for tag, _ in tags if tag in ("link", "iframe", "object", "embed", "base", "form")]
    assert not re.search(r'(src|href)\s*=\s*["\']?\s*(http|//)', page)
    (policy,) = [about["content"] for tag, about in tags if tag == "meta" and about.get("http-equiv") == "Content-Security-Policy"]
    rules = dict(rule.split(None, 1) for rule in policy.split("; "))
    assert rules["default-src"] == "'none'"
    assert not re.search(r"http|\*|'self'", policy)


def test_markup_in_names_is_escaped_in_the_report(nasty):
    page = without_plotly(report.report_html(nasty))
    assert NASTY.lower() not in page.lower()
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "b &amp; 🌱" in page


def test_every_script_of_the_report_is_plotlys(nasty):
    scripts = re.findall(r"<script[^>]*>(.*?)</script>", without_plotly(report.report_html(nasty)), re.DOTALL)
    assert all(not script.strip() or "Plotly" in script for script in scripts)


def test_an_existing_file_is_kept_without_force(record, tmp_path):
    file = tmp_path / "report.html"
    file.write_text("mine")
    with pytest.raises(ConfigError, match="--force"):
        report.write_report(record, file)
    assert file.read_text() == "mine"
    report.write_report(record, file, force=True)
    assert file.read_text(encoding="utf-8").startswith("<!doctype html>")


@pytest.mark.parametrize("place", ["no/such/folder/report.html", "."])
def test_a_file_that_cannot_be_written_raises_a_resource_error(record, tmp_path, place):
    with pytest.raises(ResourceError, match="--to"):
        report.write_report(record, tmp_path / place, force=True)


def test_a_study_without_an_ended_trial_has_a_report(played, play):
    young = read_study(play("young-fig").name, played.url)
    for record in (young, study(), study(trial(0, "running"))):
        page = without_plotly(report.report_html(record))
        assert record.name in page
        assert "<dt>gain over the default recipe</dt><dd>–</dd>" in page
        assert "Leaders" not in sections(page)


def test_a_study_in_which_everything_failed_has_a_report():
    page = report.report_html(study(failed(0), failed(1, message=NASTY)))
    assert sections(page) == ["Failures"]
    assert NASTY not in without_plotly(page)


def test_an_older_record_has_a_report(record, learnt):
    page = report.report_html(older(record))
    assert "<dd>0.8</dd>" in page
    assert "Predictions on the validation images" not in sections(page)
    assert "Importance of parameters" not in sections(report.report_html(older(learnt)))


@pytest.mark.parametrize("damage", ["gone", "broken"])
def test_lost_artifacts_do_not_hide_the_rest_of_the_report(played, damage):
    record = read_study(played.name, played.url)
    for path in Path(artifact_location(record.root)).iterdir():
        path.unlink() if damage == "gone" else path.write_text("{")
    page = report.report_html(record)
    assert "<dd>0.8</dd>" in page
    assert "Leaders" in sections(page)


@pytest.mark.parametrize(
    ("pictures", "figures"),
    [
        ({"classes": ["age"], "scatter": [[1.0, 2.0]], "worst": []}, 1),
        ({"classes": ["cat", "dog"], "precision": [[0, 0.5, 3], [1, 0.7, 2]], "reliability": [[0.5, 0.5, 5]], "worst": []}, 2),
        ({"classes": list(map(str, range(40))), "confusion": [[0, 1, 3]], "reliability": [[0.5, 0.5, 3]], "worst": []}, 2),
    ],
    ids=["regression", "multilabel", "many classes"],
)
def test_each_task_has_its_figures_in_the_report(record, pictures, figures):
    best = dataclasses.replace(record.best)
    best.__dict__["report"] = {"pictures": pictures}
    page = report.report_html(dataclasses.replace(record, trials=(best,)))
    picture = page.partition("Predictions on the validation images")[2].partition("</section>")[0]
    assert picture.count("Plotly.newPlot(") == figures
    assert "The worst predictions" not in picture
