"""The test accuracy that a search reaches in some minutes, against the plain script `stock.py` with the same weights and image size.

    python -m tests.benchmarks.quality_over_time BASELINES [--minutes 1,2,4] [--sets clothing10,sign_digits10] [--seeds 3] [--json FILE]

BASELINES is the folder of `stock.py`. Each search is a command of its own with nothing stored before, on two slots; the sides take turns.
A search that has finished no trial counts with 0. `wall_seconds` of a search counts reading the images and the final evaluation, too.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import mean
from typing import Annotated, Any

import typer

from search.record.reader import read_study
from tests.benchmarks.report import JsonFile, report_table
from tests.paths import real_data_folder


def main(
    baselines: Annotated[Path, typer.Argument(help="folder of stock.py")],
    minutes: str = "1,2,4",
    sets: str = "clothing10,sign_digits10",
    seeds: int = 3,
    json_file: JsonFile = None,
) -> None:
    """Run both sides for each set, time and seed, and report their mean test accuracies."""
    runs: list[dict[str, Any]] = []
    for name in sets.split(","):
        for limit in map(float, minutes.split(",")):
            for seed in range(seeds):
                for side in (ours, stock):
                    result = side(real_data_folder() / name, limit, seed, baselines)
                    runs.append({"set": name, "minutes": limit, "seed": seed, "side": side.__name__, **result})
                    print(json.dumps(runs[-1]), flush=True)
    rows = {}
    for name in sets.split(","):
        for limit in map(float, minutes.split(",")):
            here = [run for run in runs if (run["set"], run["minutes"]) == (name, limit)]
            rows[f"{name}, {limit:g} min"] = {
                side: round(mean(run["test"] for run in here if run["side"] == side), 4) for side in ("ours", "stock")
            }
    report_table(f"test accuracy of the winner, {seeds} seeds", rows, {"rows": rows, "runs": runs}, json_file)


def ours(data: Path, minutes: float, seed: int, baselines: Path) -> dict[str, Any]:
    """Run `injerto search`, and return the test accuracy of the winner and of the default recipe, and what it did."""
    with tempfile.TemporaryDirectory() as scratch:
        storage, started = f"sqlite:///{scratch}/studies.db", time.perf_counter()
        options = ["--time-budget", f"{minutes:g}m", "--trials", "1000", "--seed", str(seed), "--output", scratch, "--storage", storage]
        options += ["--set", "backbones=[efficientnet_lite0]"]
        subprocess.run(
            [sys.executable, "-m", "search.cli", "search", str(data), *options],
            env=os.environ | {"INJERTO_CACHE": f"{scratch}/cache"},
            check=True,
            stdout=subprocess.DEVNULL,
        )
        record, wall = read_study(storage=storage), time.perf_counter() - started
    best = record.best
    return {
        "test": record.test["winner"]["test"]["accuracy"] if record.test else 0.0,
        "default_recipe": record.test.get("default_recipe", {}).get("test", {}).get("accuracy"),
        "winner": best and {"number": best.number, "value": best.value, "state": best.state, "config": best.config},
        "trials": record.counts,
        "wall_seconds": round(wall),
    }


def stock(data: Path, minutes: float, seed: int, baselines: Path) -> dict[str, Any]:
    """Run `stock.py`, and return the test accuracy of its best finished trial, and what it did."""
    command = [sys.executable, "stock.py", "--data", str(data), "--minutes", f"{minutes:g}", "--backbone", "lite0", "--seed", str(seed)]
    output = subprocess.run(command, cwd=baselines, check=True, stdout=subprocess.PIPE, text=True).stdout
    result = json.loads(output.splitlines()[-1])
    return {"test": result["test"] or 0.0, "trials": result["trials"], "finished": result["finished"], "wall_seconds": result["wall"]}


if __name__ == "__main__":
    typer.run(main)
