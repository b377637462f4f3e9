"""The dashboard as a person sees it: in a real browser, over a search that has finished and one that runs."""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request

import pytest

from search.record.records import read_study
from search.record.store import load_study, open_storage
from tests.paths import REPOSITORY
from tests.search.conftest import folders
from tests.search.replaying import replay_search
from trainables.worker.simulated_trial import Simulation

CHROMIUM = next((found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None)
SCREENS = {
    "study": "early-fig",
    "trials": "Trials",
    "trial": "Trial",
    "space": "Space",
    "augmentation": "Augmentation",
    "timeline": "Timeline",
    "compare": "Compare",
    "export": "Export",
}
PATIENCE = 60_000
RUNNING = """
import sys
from pathlib import Path
from tests.search.replaying import replay_search
from trainables.worker.simulated_trial import Simulation
replay_search(Path(sys.argv[1]), Simulation(seconds=3), trials=500, name="late-fig", max_concurrent_trials=2)
"""


@pytest.fixture(scope="session")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("there is no Chromium on the path")
    with playwright.sync_playwright() as started:
        found = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture(scope="module")
def root(own_cache, tmp_path_factory):
    """A storage with a finished search on images, one of replayed trials, and one that runs."""
    root = tmp_path_factory.mktemp("served")
    storage = f"sqlite:///{root}/studies.db"
    photos = folders(root / "photos")
    command = [sys.executable, "-m", "search.cli", "search", photos, "--trials", "2", "--name", "early-fig", "--image-size", "32"]
    subprocess.run(
        [*command, "--storage", storage, "--output", root / "out", "--set", "space.epochs=2"], cwd=REPOSITORY, check=True, timeout=300
    )
    return root


@pytest.fixture(scope="module")
def running(root, ray_session):
    """A search in a process of its own, which has ended a few trials."""
    replay_search(root, Simulation(), trials=12, name="ripe-fig")
    process = subprocess.Popen([sys.executable, "-c", RUNNING, root], cwd=REPOSITORY, env=os.environ | {"PYTHONPATH": str(REPOSITORY)})
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        names = [study.study_name for study in open_storage(f"sqlite:///{root}/studies.db").get_all_studies()]
        if "late-fig" in names and read_study("late-fig", f"sqlite:///{root}/studies.db").counts["finished"] >= 1:
            break
        time.sleep(0.5)
    yield process
    process.kill()
    process.wait()


@pytest.fixture(scope="module")
def served(root):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "search.cli", "dashboard", "--storage", f"sqlite:///{root}/studies.db", "--port", str(port)]
    server = subprocess.Popen([*command, "--allow-actions", "--refresh", "1"], cwd=REPOSITORY)
    address, deadline = f"http://127.0.0.1:{port}", time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            urllib.request.urlopen(f"{address}/_stcore/health", timeout=2)
            break
        except OSError:
            time.sleep(0.2)
    yield address
    server.terminate()
    server.wait(timeout=20)


@pytest.fixture
def page(browser, served):
    """A page of the dashboard; whatever it asks of another machine is noted in `abroad`."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    page.abroad = []
    page.on("request", lambda request: page.abroad.append(request.url) if not request.url.startswith((served, "data:", "blob:")) else None)
    yield page
    assert [url for url in page.abroad if not url.startswith(served.replace("http", "ws"))] == []
    context.close()


def settled(page):
    """Wait until Streamlit has run the page to its end, and give its text."""
    page.wait_for_selector("h1")
    page.wait_for_function("!document.querySelector('[data-testid=stStatusWidget]')")
    page.wait_for_timeout(500)
    return page.inner_text("[data-testid=stMain]")


def whole(page):
    """No part of a page failed."""
    text = settled(page)
    assert page.locator("[data-testid=stException]").count() == 0, text
    return text


@pytest.mark.parametrize("screen", SCREENS)
@pytest.mark.parametrize("study", ["early-fig", "late-fig"])
def test_every_screen_opens_by_its_address(screen, study, page, served, running):
    page.goto(f"{served}/{screen}?study={study}")
    whole(page)
    title = study if screen == "study" else SCREENS[screen]
    assert page.inner_text("h1") == title
    assert f"study={study}" in page.url


def test_from_the_studies_to_a_study_to_its_best_trial_to_a_comparison(page, served, running):
    page.goto(served)
    page.get_by_role("link", name=re.compile("early-fig")).first.click()
    page.wait_for_url(re.compile("/study.*study=early-fig"))
    whole(page)
    best = read_study("early-fig", storage_of(running)).best.number
    page.get_by_role("link", name=f"Look at trial {best}").click()
    page.wait_for_url(re.compile(f"/trial.*trial={best}"))
    text = whole(page)
    assert "Which class was taken for which" in text
    assert page.locator("[data-testid=stPlotlyChart]").count() >= 3
    page.locator("[data-testid=stSidebar]").get_by_role("link", name="Compare").click()
    page.wait_for_url(re.compile("/compare.*study=early-fig"))
    settled(page)
    page.get_by_role("combobox").last.click()
    page.get_by_role("option", name="ripe-fig").click()
    page.wait_for_selector("text=Their spaces")
    assert "with=ripe-fig" in page.url


def storage_of(process):
    return f"sqlite:///{process.args[-1]}/studies.db"


def test_the_table_is_filtered_and_the_address_says_how(page, served, running):
    page.goto(f"{served}/trials?study=ripe-fig")
    assert "12 trials of 12" in whole(page)
    page.get_by_label("Text").fill("default recipe")
    page.keyboard.press("Enter")
    page.wait_for_selector("text=1 trials of 12")
    assert "text=default" in page.url
    page.goto(page.url)
    assert "1 trials of 12" in whole(page)


def test_the_slider_shows_another_strength(page, served, root):
    page.goto(f"{served}/augmentation?study=early-fig&strength=0.5")
    whole(page)
    shown = page.locator("[data-testid=stMain] img").first
    assert shown.get_attribute("alt") == "Images at strength 0.5"
    before = shown.get_attribute("src")
    page.get_by_role("slider").focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_selector("img[alt='Images at strength 0.625']")
    assert page.locator("[data-testid=stMain] img").first.get_attribute("src") != before


def ended(page):
    tile = page.locator("[data-testid=stMetric]", has_text="trials").filter(has_text="of 500")
    return int(re.search(r"(\d+) of 500", tile.first.inner_text())[1])


def test_a_new_trial_appears_without_a_reload_and_the_button_ends_the_search(page, served, running):
    page.goto(f"{served}/study?study=late-fig")
    whole(page)
    page.evaluate("window.loadedOnce = true")
    before = ended(page)
    deadline = time.monotonic() + 60
    while ended(page) <= before and time.monotonic() < deadline:
        page.wait_for_timeout(500)
    assert ended(page) > before
    assert page.evaluate("window.loadedOnce")
    page.get_by_role("button", name="End the search").click()
    page.get_by_role("button", name="End it now").click()
    running.wait(timeout=120)
    assert running.returncode == 0
    page.wait_for_selector("text=ended early by the dashboard")
    record = read_study("late-fig", storage_of(running))
    assert record.state == "finished"
    assert record.counts["running"] == 0


def test_markup_in_a_name_is_text(page, served, root):
    study = load_study(open_storage(f"sqlite:///{root}/studies.db"), "early-fig")
    study.set_user_attr(
        "note:1", {"trial": None, "text": "<img src=x onerror=alert(1)> **bold** 🌱", "by": "a test", "at": "2026-01-01 00:00:00"}
    )
    dialogs = []
    page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
    page.goto(f"{served}/study?study=early-fig")
    page.wait_for_selector("text=onerror=alert(1)")
    assert "<img src=x onerror=alert(1)> **bold** 🌱" in whole(page)
    assert dialogs == []
