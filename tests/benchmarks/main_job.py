"""The main job, measured: trials, test accuracy, wall time, and where the workers' time goes.

    python tests/benchmarks/main_job.py [SOURCE] [--trials 12] [--json FILE]

Runs `injerto search` in a folder, a cache and a storage of its own, so that nothing is there from an earlier run. Worker time is
slots × the time from the first trial's start to the last one's end; its parts are shares of it.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from search.record.records import StudyRecord, read_study


def main(source: str = "builtin:digits", trials: int = 12, json_file: Annotated[Path | None, typer.Option("--json")] = None) -> None:
    """Print and write the figures of one search."""
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
        result = {"source": Path(source).name, "wall_seconds": round(wall, 1), **figures(record)}
    print(json.dumps(result, indent=2))
    if json_file is not None:
        json_file.write_text(json.dumps(result, indent=2))


def figures(record: StudyRecord) -> dict[str, Any]:
    """Return a search's scores and the parts of its workers' time."""
    trials = [trial for trial in record.trials if trial.started and trial.ended]
    first, last = min(trial.started for trial in trials), max(trial.ended for trial in trials)  # type: ignore[type-var]
    slots = len(os.sched_getaffinity(0))
    worker_seconds = slots * (last - first).total_seconds()  # type: ignore[operator]
    training = sum(trial.attributes["seconds_training"] for trial in trials)
    inside = sum(trial.attributes["seconds_total"] for trial in trials)
    held = sum((trial.ended - trial.started).total_seconds() for trial in trials)  # type: ignore[operator]
    parts = {
        "training_and_evaluation": training,
        "building_and_saving": inside - training,
        "starting_workers_and_messages": held - inside,
        "idle": worker_seconds - held,
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
