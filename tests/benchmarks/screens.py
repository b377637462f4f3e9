"""The dashboard over studies of many trials: the seconds of the first reading, of a refresh, and of the first paint in a browser.

    python tests/benchmarks/screens.py [--trials 10000] [--json FILE]

A study of so many simulated trials is compared with one of a hundredth of them, in the same run. `cold` is the first reading, during
which the dashboard shows a progress bar. `refresh` is the work of a live panel every two seconds: read what is new, compute the rows of the
study screen, and turn its figures into JSON. `paint` is the time from a new visitor's click to the figures in a browser (headless
Chromium), after an earlier visitor has opened the study.
"""

import json
import os
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import psutil
import typer

from tests.benchmarks import large_study
from tests.benchmarks.large_study import study_url
from tests.benchmarks.report import JsonFile, report_table

CHROMIUM = next((found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None)
REPEATS = 5
app = typer.Typer(add_completion=False, help=__doc__)


@app.command()
def main(
    trials: int = 10_000,
    json_file: JsonFile = None,
    study: Annotated[Path | None, typer.Option(help="folder with a study of so many trials, made by large_study.py")] = None,
) -> None:
    """Measure both studies and report the figures and their ratios."""
    rows: dict[str, dict[str, float]] = {}
    few_trials = max(10, trials // 100)
    for number in (few_trials, trials):
        with tempfile.TemporaryDirectory() as scratch:
            folder = study if study is not None and number == trials else Path(scratch)
            if folder != study:
                subprocess.run([sys.executable, large_study.__file__, scratch, str(number)], check=True)
            command = [sys.executable, __file__, "--measure", str(folder)]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            rows[str(number)] = json.loads(done.stdout.splitlines()[-1])
    few, many = rows.values()
    ratios = {name: round(many[name] / few[name], 1) for name in many if few.get(name)}
    rows["ratio"] = ratios
    title = f"the dashboard by the trials of a study; ratio: many / few, for {trials // few_trials} times as many trials"
    report_table(title, rows, rows, json_file)


def measure(folder: Path) -> dict[str, float]:
    """Return the figures for the study in a folder."""
    from dashboard.charts import study_charts
    from dashboard.data import study_data
    from search.display.snapshot import snapshot_of
    from search.record.reader import StudyReader
    from search.record.store import load_study, open_storage

    url = study_url(folder)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.perf_counter()
    reader = StudyReader(load_study(open_storage(url), None))
    reader.read()
    cold = time.perf_counter() - started
    refreshes = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        record = reader.read()
        snapshot_of(record)
        study_charts.best_so_far(study_data.best_so_far(record), record.metric, default=0.5).to_json()
        study_charts.curves(
            study_data.learning_curves(record, study_data.trials_to_draw(record)), record.metric, study_data.rung_percentages(record)
        ).to_json()
        refreshes.append(time.perf_counter() - started)
    figures = {"cold_seconds": round(cold, 2), "refresh_ms": round(1000 * sorted(refreshes)[REPEATS // 2], 1)}
    figures["reader_mb"] = round((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024, 1)
    return figures | (paint_seconds(url, record.name) if CHROMIUM else {})


def paint_seconds(url: str, name: str) -> dict[str, float]:
    """Return the seconds until a later visitor's browser shows the tiles and the figures, and the memory of the server (MB)."""
    from playwright.sync_api import sync_playwright

    with dashboard_server(url) as (address, server), sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        visits = []
        for _ in range(REPEATS):
            page = browser.new_context(viewport={"width": 1280, "height": 900}).new_page()
            page.goto(address)
            page.wait_for_selector("h1")
            started = time.perf_counter()
            page.goto(f"{address}/study?study={name}")
            page.wait_for_selector("[data-testid=stMetric]", timeout=300_000)
            tiles = time.perf_counter() - started
            page.wait_for_function("document.querySelectorAll('.js-plotly-plot .main-svg').length >= 2", timeout=300_000)
            visits.append((tiles, time.perf_counter() - started))
        browser.close()
        memory = psutil.Process(server.pid).memory_info().rss
    tiles, figures = (sorted(column)[(REPEATS - 1) // 2] for column in zip(*visits[1:], strict=True))
    return {"tiles_seconds": round(tiles, 2), "paint_seconds": round(figures, 2), "server_mb": round(memory / 2**20, 1)}


@contextmanager
def dashboard_server(url: str) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Run a dashboard during the block; yield its address and its process. Exits if it does not answer within a minute."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "search.cli", "dashboard", "--storage", url, "--port", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=os.environ)
    address, deadline = f"http://127.0.0.1:{port}", time.monotonic() + 60
    try:
        while True:
            try:
                urllib.request.urlopen(f"{address}/_stcore/health", timeout=2)
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise SystemExit(f"the dashboard at {address} does not answer") from None
                time.sleep(0.2)
        yield address, server
    finally:
        server.terminate()
        server.wait(timeout=20)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--measure"]:
        print(json.dumps(measure(Path(sys.argv[2]))))
    else:
        app()
