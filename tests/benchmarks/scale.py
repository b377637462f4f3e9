"""A cluster, measured on this machine: how busy its slots are, how long it takes to look at nodes and to begin, what a record costs.

    python -m tests.benchmarks.scale slots [--slots 64] [--seconds 60] [--rounds 3] [--json FILE]
    python -m tests.benchmarks.scale nodes [--nodes 8] [--json FILE]
    python -m tests.benchmarks.scale record [--storage URL] [--trials 50] [--json FILE]

`slots`: replayed trials, which sleep, on logical slots of one machine. `nodes`: a Ray of so many nodes on loopback; the first look at
them starts a worker on each. `record`: what the driver writes of a trial of ten epochs, one after another, into an empty database.
"""

import logging
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from search.watcher import SilentWatcher
from tests.benchmarks.engine import conclude, local_ray, study_config
from trainables.worker.simulated_trial import SimulatedTrial, Simulation

app = typer.Typer(add_completion=False, no_args_is_help=True, help=__doc__)
Json = Annotated[Path | None, typer.Option("--json", help="file for the figures")]


@app.command()
def slots(slots: int = 64, seconds: float = 60.0, rounds: int = 3, epochs: int = 6, json_file: Json = None) -> None:
    """Measure the share of the slots that is at a trial, from the first trial to the last, and once all slots have begun."""
    from search.driver.launch import launch

    trials = slots * rounds
    with tempfile.TemporaryDirectory() as scratch, local_ray(slots):
        config = study_config(Path(scratch), trials=trials, epochs=epochs, slots=slots)
        record = launch(config, SilentWatcher(), trainable=SimulatedTrial.of(Simulation(seconds=seconds)))
    spans = sorted((began, ended) for trial in record.trials for _, began, ended in trial.attributes["facts"]["spans"])
    assert record.counts["finished"] == trials, record.counts
    first, filled = spans[0][0], spans[slots - 1][0]
    drained = sorted(ended for _, ended in spans)[-slots]
    rows = {
        "from the first trial to the last": {"busy": busy(spans, first, max(ended for _, ended in spans), slots)},
        "from all slots begun to none left to begin": {"busy": busy(spans, filled, drained, slots)},
    }
    about = {
        "slots": slots,
        "seconds": seconds,
        "trials": trials,
        "processors": len(os.sched_getaffinity(0)),
        "filling_seconds": filled - first,
    }
    conclude(
        f"{trials} trials of {seconds:g} s on {slots} slots; {filled - first:.0f} s until all had begun", rows, {**about, **rows}, json_file
    )


def busy(spans: list[tuple[float, float]], since: float, until: float, slots: int) -> float:
    """Return the share of slots × time that lies in spans."""
    inside = sum(max(0.0, min(ended, until) - max(began, since)) for began, ended in spans)
    return round(inside / (slots * (until - since)), 4)


@app.command()
def nodes(nodes: int = 8, json_file: Json = None) -> None:
    """Measure the look at every node, and what passes between handing in a search and its first epoch."""
    import ray

    from cluster import local
    from cluster.connect import connect
    from search.config import read_config
    from search.nodes.preflight import examine
    from search.nodes.resources import fit
    from search.plan import absolute, make_plan

    with tempfile.TemporaryDirectory() as scratch:
        os.environ |= {"INJERTO_CACHE": f"{scratch}/cache", "INJERTO_STORAGE": f"sqlite:///{scratch}/studies.db"}
        began = time.perf_counter()
        there = local.up(nodes, cpus=1)
        up = time.perf_counter() - began
        try:
            config = absolute(read_config("builtin:digits", {"output": f"{scratch}/out"}))
            plan = make_plan(config)
            with connect(there.address) as capacity:
                share, took = fit(capacity, config), []
                for _ in range(2):
                    began = time.perf_counter()
                    outcomes = examine(plan, share, f"{scratch}/out", None)
                    took.append(time.perf_counter() - began)
                    assert [outcome.failures for outcome in outcomes] == [{}] * nodes, outcomes
            assert not ray.is_initialized()
            waits = [first_epoch(there.dashboard, scratch, name) for name in ("cold", "warm")]
        finally:
            local.down()
    rows = {
        "up": {"seconds": round(up, 1)},
        "look at every node, the first time": {"seconds": round(took[0], 1)},
        "look at every node, again": {"seconds": round(took[1], 1)},
        "submit to the first epoch, the first search": {"seconds": round(waits[0], 1)},
        "submit to the first epoch, a second search": {"seconds": round(waits[1], 1)},
    }
    conclude(f"{nodes} nodes on loopback, {len(os.sched_getaffinity(0))} processors", rows, {"nodes": nodes, **rows}, json_file)


def first_epoch(dashboard: str, scratch: str, name: str) -> float:
    """Return the seconds from the command that submits a search to the first epoch in its record."""
    from search.record.records import read_study
    from trainables.errors import StorageError

    storage = f"sqlite:///{scratch}/studies.db"
    size = ["--trials", "2", "--max-concurrent-trials", "1", "--set", "space.epochs=10"]
    places = ["--name", name, "--storage", storage, "--output", f"{scratch}/out"]
    began = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "search.cli", "submit", "--address", dashboard, *places, *size], check=True, stdout=subprocess.DEVNULL
    )
    while True:
        try:
            record = read_study(name, storage)
        except StorageError:
            record = None
        if record is not None and any(trial.epochs_done for trial in record.trials):
            break
        time.sleep(0.2)
    took = time.perf_counter() - began
    while read_study(name, storage).state == "running":
        time.sleep(0.5)
    return took


@app.command()
def record(storage: str | None = None, trials: int = 50, epochs: int = 10, json_file: Json = None) -> None:
    """Measure the writes of a driver: a trial asked for, its epochs reported with their history, told."""
    import optuna

    from search.record.store import open_storage

    logging.getLogger("optuna").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as scratch:
        opened = open_storage(storage or f"sqlite:///{scratch}/studies.db", create=True)
        study = optuna.create_study(storage=opened, study_name=f"benchmark-{time.time_ns()}", sampler=optuna.samplers.RandomSampler(seed=0))
        history: dict[str, list[float]] = {f"metric{number}": [] for number in range(12)}
        began = time.perf_counter()
        for _ in range(trials):
            trial = study.ask()
            trial.suggest_float("learning_rate", 1e-5, 1e-1, log=True)
            for epoch in range(1, epochs + 1):
                trial.report(0.5, epoch)
                trial.set_user_attr("history", {name: [0.123456789] * epoch for name in history})
                trial.set_user_attr("facts", {"seconds": 1.0, "node": "alpha"})
            study.tell(trial, 0.5)
        took = time.perf_counter() - began
        optuna.delete_study(study_name=study.study_name, storage=opened)
    rows: dict[str, dict[str, Any]] = {
        "a trial": {"milliseconds": round(1000 * took / trials, 1)},
        "an epoch": {"milliseconds": round(1000 * took / trials / epochs, 2)},
    }
    kind = opened.url.partition(":")[0]
    conclude(f"{trials} trials of {epochs} epochs into {kind}", rows, {"storage": kind, "trials": trials, **rows}, json_file)


if __name__ == "__main__":
    app()
