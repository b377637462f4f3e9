"""What a search costs besides its training, and how much its driver can do, measured with simulated trials.

    python tests/benchmarks/engine.py overhead [--trials 1000] [--seconds 10] [--slots 16] [--json FILE]
    python tests/benchmarks/engine.py driver [--ended 100 --ended 1000 --ended 10000] [--json FILE]

`overhead` compares the wall time of a search with the ideal, trials × seconds / slots, and with the wall time of Ray Tune alone for the
same trials in the same run: random configurations, no Optuna, no record. The slots are logical: simulated trials sleep. `driver` makes
studies of so many ended trials and resumes each for 60 more trials that take no time, each in a process of its own, one after another.
"""

import itertools
import json
import logging
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Annotated, Any

import typer

from cluster.environment import LOOPBACK, set_environment
from search.watcher import SilentWatcher
from tests.benchmarks import large_study
from tests.benchmarks.large_study import NAME, require_trials, study_config, study_url
from tests.benchmarks.report import JsonFile, report_table
from trainables.worker.simulated_trial import SimulatedTrial, Simulation

app = typer.Typer(add_completion=False, no_args_is_help=True, help=__doc__)
ADDED_TRIALS = 60
"""Trials for which `driver` resumes a study."""


class Stopwatch(SilentWatcher):
    """Notes when the trials are about to start, when the first one begins, and when the last one has ended."""

    def begin(self, *about: Any) -> None:
        self.began, self.cpu_began, self.first_event = time.perf_counter(), time.process_time(), None

    def event(self, event: Any) -> None:
        self.first_event = self.first_event or time.perf_counter()

    def finishing(self) -> None:
        self.ended, self.cpu_ended = time.perf_counter(), time.process_time()

    @property
    def wall(self) -> float:
        """Seconds from the start of the main loop to its end."""
        return self.ended - self.began

    @property
    def cpu(self) -> float:
        """CPU seconds of this process in that time."""
        return self.cpu_ended - self.cpu_began


@app.command()
def overhead(trials: int = 1000, seconds: float = 10.0, slots: int = 16, epochs: int = 10, json_file: JsonFile = None) -> None:
    """Compare a search with the ideal and with Ray Tune alone."""
    ideal = trials * seconds / slots
    trainable = SimulatedTrial.of(Simulation(seconds=seconds))
    rows = {}
    for name, measure in {"bare Ray Tune": measure_ray_tune, "injerto": measure_search}.items():
        with tempfile.TemporaryDirectory() as scratch, local_ray(slots):
            wall, cpu = measure(Path(scratch), trainable, trials=trials, epochs=epochs, slots=slots)
        rows[name] = {
            "wall_seconds": round(wall, 1),
            "over_ideal": round(wall / ideal, 3),
            "driver_ms_per_trial": round(1000 * cpu / trials, 1),
        }
    ratio = rows["injerto"]["wall_seconds"] / rows["bare Ray Tune"]["wall_seconds"]
    about = {"trials": trials, "seconds": seconds, "slots": slots, "epochs": epochs, "processors": len(os.sched_getaffinity(0))}
    title = f"{trials} trials of {seconds:g} s on {slots} slots: ideal {ideal:.1f} s; injerto / bare {ratio:.3f}"
    report_table(title, rows, {**about, "ideal_seconds": ideal, "engine_over_bare": round(ratio, 3), **rows}, json_file)


def measure_search(scratch: Path, trainable: type[SimulatedTrial], *, trials: int, epochs: int, slots: int) -> tuple[float, float]:
    """Return the wall seconds and the driver's CPU seconds of a search without rungs."""
    from search.driver.launch import launch

    stopwatch = Stopwatch()
    record = launch(study_config(scratch, trials=trials, epochs=epochs, slots=slots), stopwatch, trainable=trainable)
    require_trials(record.counts["finished"], trials)
    return stopwatch.wall, stopwatch.cpu


def measure_ray_tune(scratch: Path, trainable: type[SimulatedTrial], *, trials: int, epochs: int, slots: int) -> tuple[float, float]:
    """Return the wall seconds and the driver's CPU seconds of Ray Tune alone with random configurations."""
    from ray import tune

    from trainables.config import DataConfig, TrialConfig
    from trainables.worker.assignment import Assignment

    numbers, random = itertools.count(), Random(0)

    def assignment(spec: Any) -> dict[str, Any]:
        number = next(numbers)
        trial = TrialConfig(epochs=epochs, seed=number, learning_rate=10 ** random.uniform(-5, -1), dropout=random.uniform(0, 0.5))
        folder = str(scratch / "trials" / f"{number:05d}")
        drawn = Assignment(
            number=number, trial=trial, data=DataConfig(), task="multiclass", fingerprint="", metric="accuracy", folder=folder
        )
        return drawn.model_dump(mode="json")

    tuner = tune.Tuner(
        tune.with_resources(trainable, {"cpu": 1}),
        param_space={"assignment": tune.sample_from(assignment)},
        tune_config=tune.TuneConfig(metric="objective", mode="max", num_samples=trials, max_concurrent_trials=slots, reuse_actors=True),
        run_config=tune.RunConfig(name="bare", storage_path=str(scratch), verbose=0),
    )
    began, cpu_began = time.perf_counter(), time.process_time()
    results = tuner.fit()
    wall, cpu = time.perf_counter() - began, time.process_time() - cpu_began
    require_trials(sum(result.metrics["done"] for result in results), trials)
    return wall, cpu


@app.command()
def driver(
    ended: Annotated[list[int], typer.Option(help="trials in the record")] = [100, 1000, 10_000],  # noqa: B006
    json_file: JsonFile = None,
) -> None:
    """Measure the driver of a resumed search by the number of trials in its study."""
    rows = {}
    for number in ended:
        with tempfile.TemporaryDirectory() as scratch:
            subprocess.run([sys.executable, large_study.__file__, scratch, str(number)], check=True)
            done = subprocess.run([sys.executable, __file__, "resumed", scratch], check=True, stdout=subprocess.PIPE, text=True)
            rows[str(number)] = json.loads(done.stdout.splitlines()[-1])
            rows[str(number)]["record_mb"] = round((Path(scratch) / "studies.db").stat().st_size / 1e6, 1)
    report_table(f"the driver of {ADDED_TRIALS} more trials, by the ended trials of its study", rows, rows, json_file)


@app.command(hidden=True)
def resumed(scratch: Path) -> None:
    """Resume the study in a folder and print the figures of its driver."""
    from search.driver.launch import resume

    stopwatch, called = Stopwatch(), time.perf_counter()
    record = resume(NAME, study_url(scratch), stopwatch, add_trials=ADDED_TRIALS, trainable=SimulatedTrial)
    require_trials(record.counts["finished"] + record.counts["stopped"], int(record.config["budget"]["trials"]))
    figures = {
        "to_first_trial_seconds": round(stopwatch.first_event - called, 2),
        "cpu_ms_per_trial": round(1000 * stopwatch.cpu / ADDED_TRIALS, 1),
        "wall_ms_per_trial": round(1000 * stopwatch.wall / ADDED_TRIALS, 1),
        "peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
    }
    print(json.dumps(figures))


@contextmanager
def local_ray(slots: int) -> Iterator[None]:
    """Run a Ray of so many logical CPUs during the block, started as `cluster.connect.connect` starts it."""
    set_environment()
    import ray

    ray.init(
        address="local",
        num_cpus=slots,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        _node_ip_address=LOOPBACK,
    )
    try:
        yield
    finally:
        ray.shutdown()


if __name__ == "__main__":
    app()
