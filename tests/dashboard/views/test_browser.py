"""The dashboard in a real browser, over a finished and a running search."""

import os
import re
import shutil
import subprocess
import sys

import pytest

from dashboard import layout
from dashboard.record_errors import UNREADABLE_PART
from search.record import lease
from search.record.reader import read_study
from tests.dashboard.played_search import PlayedSearch, five_trials, twelve_trials
from tests.dashboard.serving import serve_dashboard
from tests.paths import REPOSITORY
from tests.waiting import wait_until

CHROMIUM = next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None)
PATIENCE = 60_000
FINISHED, RUNNING = "wise-fig", "calm-fig"
SEARCH = """
import sys
from pathlib import Path
from tests.search.simulated_search import run_simulated_search
from trainables.worker.simulated_trial import Simulation
run_simulated_search(Path(sys.argv[1]), Simulation(seconds=1), trials=500, name="late-fig", max_concurrent_trials=2)
"""


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("there is no Chromium on the path")
    with playwright.sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("served")


@pytest.fixture(scope="module")
def storage(root):
    return f"sqlite:///{root}/studies.db"


@pytest.fixture(scope="module")
def finished(storage, root):
    """A finished study of twelve trials, with test scores."""
    search = twelve_trials(PlayedSearch(storage, root, FINISHED, trials=12))
    search.test_scores()
    return search


@pytest.fixture(scope="module")
def running(storage, root):
    """A study that this process runs: five trials have begun, one of them still runs."""
    return five_trials(PlayedSearch(storage, root, RUNNING))


@pytest.fixture(scope="module")
def served(storage, finished, running):
    """The address of a dashboard over both studies, on which viewers may act."""
    with serve_dashboard(storage, "--allow-actions", "--refresh", "0.5") as server:
        yield server.address


@pytest.fixture(scope="module")
def context(browser):
    """One browser profile for all tests, so that the scripts of the page are loaded once."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    yield context
    context.close()


@pytest.fixture
def page(context, served):
    """A page of the dashboard; the test fails if the page requests anything from another server."""
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    elsewhere = []
    own = (served, served.replace("http", "ws"), "data:", "blob:")
    page.on("request", lambda request: elsewhere.append(request.url) if not request.url.startswith(own) else None)
    yield page
    page.close()
    assert elsewhere == []


def choose(page, option):
    """Choose an option of the last list of a page. A click while Streamlit draws the page again is lost; then it is repeated."""
    from playwright.sync_api import TimeoutError as NotYet

    for _ in range(3):
        page.get_by_role("combobox").last.click()
        page.get_by_role("option", name=option).click()
        try:
            page.wait_for_url(re.compile(f"with={option}"), timeout=10_000)
            return
        except NotYet:
            page.keyboard.press("Escape")


def text_of(page, *awaited):
    """Wait until Streamlit has drawn the page, and it shows all `awaited` texts; return its text. Fail if it shows an error."""
    page.wait_for_selector("h1")
    page.wait_for_function("!document.querySelector('[data-testid=stStatusWidget]')")
    for text in awaited:
        page.get_by_text(text).first.wait_for()
    text = page.inner_text("[data-testid=stMain]")
    assert page.locator("[data-testid=stException]").count() == 0, text
    assert UNREADABLE_PART not in text
    return text


LAST_ON_SCREEN = {
    "study": "Actions",
    "trials": "select rows to compare trials",
    "trial": "Log,",
    "space": "finished trials use both parameters",
    "augmentation": "Value by strength",
    "timeline": "Nodes",
    "compare": "Choose at least one other study.",
    "export": "Write the main figures to one HTML file",
}
"""Screen → a text of its last part."""


def assert_opens(page, address, screen, study):
    page.goto(f"{address}/{screen}?study={study}")
    text_of(page, LAST_ON_SCREEN[screen])
    assert page.inner_text("h1") == (study if screen == "study" else layout.SCREENS[screen])
    assert f"study={study}" in page.url


IN_DEFAULT_RUNS = {"study", "trial", "augmentation"}
"""Screens that the default tests open in a browser, too: with links, with charts and pictures, and with controls."""


@pytest.mark.parametrize(
    "screen", [name if name in IN_DEFAULT_RUNS else pytest.param(name, marks=pytest.mark.slow) for name in layout.SCREENS]
)
def test_every_screen_opens_by_its_address(screen, page, served):
    assert_opens(page, served, screen, FINISHED)
    assert page.locator("[data-testid=stAlertContentWarning]").count() == 0


@pytest.mark.slow
@pytest.mark.parametrize("screen", [name for name in layout.SCREENS if name not in ("space",)])
def test_every_screen_of_a_running_search_opens_by_its_address(screen, page, served):
    assert_opens(page, served, screen, RUNNING)


def test_a_study_its_best_trial_and_a_comparison_are_reached_by_links(page, served, finished):
    page.goto(served)
    page.get_by_role("link", name=re.compile(FINISHED)).first.click()
    page.wait_for_url(re.compile(f"/study.*study={FINISHED}"))
    best = read_study(FINISHED, finished.url).best.number
    page.get_by_role("link", name=f"See trial {best}").click()
    page.wait_for_url(re.compile(f"/trial.*trial={best}"))
    text_of(page, "Confusion matrix", "Log,")
    assert page.locator("[data-testid=stPlotlyChart]").count() >= 3
    page.locator("[data-testid=stSidebar]").get_by_role("link", name="Compare").click()
    page.wait_for_url(re.compile(f"/compare.*study={FINISHED}"))
    text_of(page, "Choose at least one other study.")
    choose(page, RUNNING)
    text_of(page, "These studies search the same space.")
    assert f"with={RUNNING}" in page.url


def test_a_filter_of_the_table_is_part_of_the_address(page, served):
    page.goto(f"{served}/trials?study={FINISHED}")
    text_of(page, "12 trials of 12")
    page.get_by_label("Text").fill("default recipe")
    page.keyboard.press("Enter")
    text_of(page, "1 trials of 12")
    assert "text=default" in page.url
    page.goto(page.url)
    text_of(page, "1 trials of 12")


def test_the_slider_shows_another_strength(page, served):
    page.goto(f"{served}/augmentation?study={FINISHED}&strength=0.5")
    text_of(page)
    image = page.locator("[data-testid=stMain] img").first
    assert image.get_attribute("alt") == "Images at strength 0.5"
    before = image.get_attribute("src")
    page.get_by_role("slider").focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_selector("img[alt='Images at strength 1.0']")
    assert page.locator("[data-testid=stMain] img").first.get_attribute("src") != before


def ended_trials(page, budget):
    tile = page.locator("[data-testid=stMetric]", has_text="trials").filter(has_text=f"of {budget}")
    return int(re.search(rf"(\d+) of {budget}", tile.first.inner_text())[1])


def test_a_new_trial_and_the_answer_to_a_command_appear_without_a_reload(page, served, running):
    page.goto(f"{served}/study?study={RUNNING}")
    text_of(page, "Actions")
    page.evaluate("window.loadedOnce = true")
    before = ended_trials(page, 8)
    running.run(0.6, 0.7, 0.8, 0.85)
    wait_until(lambda: ended_trials(page, 8) == before + 1, 30, "the new trial on the screen")
    page.get_by_role("button", name="End the search").click()
    page.get_by_role("button", name="End it now").click()
    (command,) = wait_until(lambda: running.attributes("command:").values(), 30, "the command in the record")
    assert command["do"] == "finish"
    lease.answer_command(running.study, next(iter(lease.pending_commands(running.study))), "the search ends now")
    text_of(page, "the search ends now")
    assert page.evaluate("window.loadedOnce")


@pytest.mark.slow
def test_the_button_ends_a_real_search(page, served, root, storage):
    search = subprocess.Popen([sys.executable, "-c", SEARCH, root], cwd=REPOSITORY, env=os.environ | {"PYTHONPATH": str(REPOSITORY)})
    try:
        wait_until(lambda: read_study("late-fig", storage).counts["finished"], 120, "a finished trial", ignoring=(Exception,))
        page.goto(f"{served}/study?study=late-fig")
        text_of(page, "Actions")
        before = ended_trials(page, 500)
        wait_until(lambda: ended_trials(page, 500) > before, 60, "another trial on the screen")
        page.get_by_role("button", name="End the search").click()
        page.get_by_role("button", name="End it now").click()
        assert search.wait(timeout=120) == 0
        text_of(page, "ended early by the dashboard")
    finally:
        search.kill()
        search.wait()
    record = read_study("late-fig", storage)
    assert record.state == "finished"
    assert record.counts["running"] == 0


def test_markup_in_a_note_is_shown_as_text(page, served, finished):
    note = {"trial": None, "text": "<img src=x onerror=alert(1)> **bold** 🌱", "by": "a test", "at": "2026-01-01 00:00:00"}
    finished.study.set_user_attr("note:1", note)
    dialogs = []
    page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
    page.goto(f"{served}/study?study={FINISHED}")
    assert note["text"] in text_of(page, "onerror=alert(1)")
    assert dialogs == []
