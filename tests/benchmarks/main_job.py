"""The main job, a search with the defaults: its wall time, its test scores, and what its workers spend their time on.

    python tests/benchmarks/main_job.py [SOURCE] [--trials 12] [--json FILE]

Runs `injerto search` with a new output folder, cache and storage, so that it reuses nothing. Worker time is the number of slots times the
seconds from the first trial's start to the last one's end; the parts are given as shares of it.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import typer

from search.record.reader import read_study
from search.record.records import StudyRecord
from tests.benchmarks.report import JsonFile, report_json


def main(source: str = "builtin:digits", trials: int = 12, json_file: JsonFile = None) -> None:
    """Run a search and report its figures."""
    if not source.startswith("builtin:"):
        source = str(Path(source).resolve())
    with tempfile.TemporaryDirectory() as scratch:
        storage = f"sqlite:///{scratch}/studies.db"
        started = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "search.cli", "search", source, "--trials", str(trials), "--output", scratch, "--storage", storage],
            env=os.environ | {"INJERTO_CACHE": f"{scratch}/cache"},
            check=True,
        )
        wall = time.perf_counter() - started
        record = read_study(storage=storage)
    report_json({"source": Path(source).name, "wall_seconds": round(wall, 1), **figures(record)}, json_file)


def figures(record: StudyRecord) -> dict[str, Any]:
    """Return the scores of a search and the parts of its workers' time."""
    trials = [trial for trial in record.trials if trial.started and trial.ended]
    first, last = min(trial.started for trial in trials), max(trial.ended for trial in trials)  # type: ignore[type-var]
    slots = len(os.sched_getaffinity(0))
    worker_seconds = slots * (last - first).total_seconds()  # type: ignore[operator]
    training = sum(trial.attributes["seconds_training"] for trial in trials)
    in_trainable = sum(trial.attributes["seconds_total"] for trial in trials)
    on_slots = sum((trial.ended - trial.started).total_seconds() for trial in trials)  # type: ignore[operator]
    parts = {
        "training_and_evaluation": training,
        "building_and_saving": in_trainable - training,
        "starting_workers_and_messages": on_slots - in_trainable,
        "idle": worker_seconds - on_slots,
    }
    return {
        "trials": record.counts,
        "epochs": sum(trial.epochs_done for trial in record.trials),
        "metric": record.metric,
        "validation": record.best and record.best.value,
        "test": record.test["winner"]["test"],
        "default_recipe_test": record.test["default_recipe"]["test"],
        "worker_seconds": round(worker_seconds, 1),
        "worker_share": {name: round(seconds / worker_seconds, 3) for name, seconds in parts.items()},
    }


if __name__ == "__main__":
    typer.run(main)
