"""The dashboard over studies of many trials: how long the first reading takes, a refresh, and the first paint in a browser.

    python tests/benchmarks/screens.py [--trials 10000] [--json FILE]

A study of so many replayed trials is compared with one of a hundredth of them, in the same run. `cold` is the first reading, which a
progress bar shows; `refresh` is what a live panel does every two seconds: read what is new, compute the study screen's rows, draw its
figures as JSON; `paint` is from a new visitor's click to the figures in a browser (headless Chromium), once another has been there.
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
from rich.console import Console
from rich.table import Table

ENGINE = Path(__file__).with_name("engine.py")
CHROMIUM = next((found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None)
REPEATS = 5
app = typer.Typer(add_completion=False, help=__doc__)


@app.command()
def main(
    trials: int = 10_000,
    json_file: Annotated[Path | None, typer.Option("--json", help="file for the figures")] = None,
    study: Annotated[Path | None, typer.Option(help="folder in which a study of so many trials has been made already")] = None,
) -> None:
    """Measure and print."""
    rows = {}
    for number in (max(10, trials // 100), trials):
        with tempfile.TemporaryDirectory() as scratch:
            folder = study if study is not None and number == trials else Path(scratch)
            if folder != study:
                subprocess.run([sys.executable, str(ENGINE), "fill", scratch, str(number)], check=True)
            command = [sys.executable, __file__, "--measure", str(folder)]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            rows[str(number)] = json.loads(done.stdout.splitlines()[-1])
    few, many = rows.values()
    ratios = {name: round(many[name] / few[name], 1) for name in many if few.get(name)}
    table = Table(
        title=f"the dashboard; the last line is many / few (x {trials // int(next(iter(rows)))} trials)", title_justify="left", box=None
    )
    for column in ("trials", *many):
        table.add_column(column.replace("_", " "), justify="right")
    for name, row in {**rows, "ratio": ratios}.items():
        table.add_row(name, *(f"{row.get(column, float('nan')):g}" for column in many))
    Console().print(table)
    if json_file is not None:
        json_file.write_text(json.dumps({**rows, "ratio": ratios}, indent=2))


def measure(folder: Path) -> dict[str, float]:
    """Return the figures of one study."""
    from dashboard.charts import study_charts
    from dashboard.data import study_data
    from search.display.snapshot import snapshot_of
    from search.record.reader import StudyReader
    from search.record.store import load_study, open_storage

    url = f"sqlite:///{folder}/studies.db"
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.perf_counter()
    reader = StudyReader(load_study(open_storage(url), None))
    reader.read()
    cold = time.perf_counter() - started
    lasted = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        record = reader.read()
        snapshot_of(record)
        study_charts.best_so_far(study_data.best_so_far(record), record.metric, default=0.5).to_json()
        study_charts.curves(study_data.learning_curves(record, study_data.trials_to_draw(record)), record.metric, study_data.rung_percentages(record)).to_json()
        lasted.append(time.perf_counter() - started)
    found = {"cold_seconds": round(cold, 2), "refresh_ms": round(1000 * sorted(lasted)[REPEATS // 2], 1)}
    found["reader_mb"] = round((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024, 1)
    return found | (painted(url, record.name) if CHROMIUM else {})


def painted(url: str, name: str) -> dict[str, float]:
    """Return the seconds until a second visitor's browser shows the figures, and the server's memory."""
    from playwright.sync_api import sync_playwright

    with served(url) as (address, server), sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        lasted = []
        for _ in range(REPEATS):
            page = browser.new_context(viewport={"width": 1280, "height": 900}).new_page()
            page.goto(address)
            page.wait_for_selector("h1")
            started = time.perf_counter()
            page.goto(f"{address}/study?study={name}")
            page.wait_for_selector("[data-testid=stMetric]", timeout=300_000)
            tiles = time.perf_counter() - started
            page.wait_for_function("document.querySelectorAll('.js-plotly-plot .main-svg').length >= 2", timeout=300_000)
            lasted.append((tiles, time.perf_counter() - started))
        browser.close()
        memory = psutil.Process(server.pid).memory_info().rss
    tiles, figures = (sorted(column)[(REPEATS - 1) // 2] for column in zip(*lasted[1:], strict=True))
    return {"tiles_seconds": round(tiles, 2), "paint_seconds": round(figures, 2), "server_mb": round(memory / 2**20, 1)}


@contextmanager
def served(url: str) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A dashboard for the length of a block."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "search.cli", "dashboard", "--storage", url, "--port", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=os.environ)
    address, deadline = f"http://127.0.0.1:{port}", time.monotonic() + 60
    try:
        while time.monotonic() < deadline:
            try:
                urllib.request.urlopen(f"{address}/_stcore/health", timeout=2)
                break
            except OSError:
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
