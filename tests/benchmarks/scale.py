"""A cluster on this machine: how busy its slots are, how long the node checks and the first epoch take, what the record costs.

    python -m tests.benchmarks.scale slots [--slots 64] [--seconds 60] [--rounds 3] [--json FILE]
    python -m tests.benchmarks.scale nodes [--nodes 8] [--json FILE]
    python -m tests.benchmarks.scale record [--storage URL] [--trials 50] [--json FILE]

`slots` runs simulated trials, which sleep, on logical slots of one machine. `nodes` starts a Ray of so many nodes on loopback; the first
check of the nodes starts a worker on each. `record` writes trials of ten epochs to an empty database, one after another, as the driver
writes them.
"""

import logging
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import typer

from search.watcher import SilentWatcher
from tests.benchmarks.engine import local_ray
from tests.benchmarks.large_study import require_trials, study_config, study_url
from tests.benchmarks.report import JsonFile, report_table
from trainables.worker.simulated_trial import SimulatedTrial, Simulation

app = typer.Typer(add_completion=False, no_args_is_help=True, help=__doc__)


@app.command()
def slots(slots: int = 64, seconds: float = 60.0, rounds: int = 3, epochs: int = 6, json_file: JsonFile = None) -> None:
    """Measure which share of the slots' time trials use: over the whole search, and while enough trials are left for all slots."""
    from search.driver.launch import launch

    trials = slots * rounds
    with tempfile.TemporaryDirectory() as scratch, local_ray(slots):
        config = study_config(Path(scratch), trials=trials, epochs=epochs, slots=slots)
        record = launch(config, SilentWatcher(), trainable=SimulatedTrial.of(Simulation(seconds=seconds)))
    require_trials(record.counts["finished"], trials)
    spans = sorted((began, ended) for trial in record.trials for _, began, ended in trial.attributes["facts"]["spans"])
    first, filled = spans[0][0], spans[slots - 1][0]
    ends = sorted(ended for _, ended in spans)
    rows = {
        "from the first trial to the last": {"busy": busy_share(spans, first, ends[-1], slots)},
        "from all slots begun to none left to begin": {"busy": busy_share(spans, filled, ends[-slots], slots)},
    }
    filling = filled - first
    about = {"slots": slots, "seconds": seconds, "trials": trials, "processors": len(os.sched_getaffinity(0)), "filling_seconds": filling}
    title = f"{trials} trials of {seconds:g} s on {slots} slots; {filling:.0f} s until all slots had a trial"
    report_table(title, rows, {**about, **rows}, json_file)


def busy_share(spans: list[tuple[float, float]], since: float, until: float, slots: int) -> float:
    """Return which share of `slots` × (`until` − `since`) the spans cover."""
    inside = sum(max(0.0, min(ended, until) - max(began, since)) for began, ended in spans)
    return round(inside / (slots * (until - since)), 4)


@app.command()
def nodes(nodes: int = 8, json_file: JsonFile = None) -> None:
    """Measure the check of every node, and the time from the submission of a search to its first epoch."""
    from cluster import local

    with tempfile.TemporaryDirectory() as scratch:
        os.environ |= {"INJERTO_CACHE": f"{scratch}/cache", "INJERTO_STORAGE": study_url(Path(scratch))}
        began = time.perf_counter()
        cluster = local.up(nodes, cpus=1)
        up = time.perf_counter() - began
        try:
            checks = check_seconds(cluster.address, scratch, nodes)
            waits = [first_epoch_seconds(cluster.dashboard, scratch, name) for name in ("cold", "warm")]
        finally:
            local.down()
    seconds = {
        "up": up,
        "check every node, the first time": checks[0],
        "check every node, again": checks[1],
        "submit to the first epoch, the first search": waits[0],
        "submit to the first epoch, a second search": waits[1],
    }
    rows = {name: {"seconds": round(value, 1)} for name, value in seconds.items()}
    report_table(f"{nodes} nodes on loopback, {len(os.sched_getaffinity(0))} CPUs", rows, {"nodes": nodes, **rows}, json_file)


def check_seconds(address: str, scratch: str, nodes: int) -> list[float]:
    """Check every node of a cluster twice; return the seconds of each time."""
    import ray

    from cluster.connect import connect
    from search.config_reader import read_config
    from search.nodes.preflight import inspect_nodes
    from search.nodes.resources import fit_to_cluster
    from search.paths import resolve_paths
    from search.plan import make_plan

    config = resolve_paths(read_config("builtin:digits", {"output": f"{scratch}/out"}))
    plan, seconds = make_plan(config), []
    with connect(address) as capacity:
        resources = fit_to_cluster(capacity, config)
        for _ in range(2):
            began = time.perf_counter()
            checked = inspect_nodes(plan, resources, f"{scratch}/out", None)
            seconds.append(time.perf_counter() - began)
            assert [node.failures for node in checked] == [{}] * nodes, checked
    assert not ray.is_initialized()
    return seconds


def first_epoch_seconds(dashboard: str, scratch: str, name: str) -> float:
    """Return the seconds from the start of the command that submits a search to the first epoch in its record."""
    from search.record.reader import read_study
    from trainables.errors import StorageError

    storage = study_url(Path(scratch))
    size = ["--trials", "2", "--max-concurrent-trials", "1", "--set", "space.epochs=10"]
    size += ["--weights", "none", "--set", "backbones=[mobilenet_v3_small]"]
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
    seconds = time.perf_counter() - began
    while read_study(name, storage).state == "running":
        time.sleep(0.5)
    return seconds


@app.command()
def record(storage: str | None = None, trials: int = 50, epochs: int = 10, json_file: JsonFile = None) -> None:
    """Measure the writes of a driver: ask for a trial, report its epochs with their history, tell its value."""
    import optuna

    from search.record.store import open_storage

    logging.getLogger("optuna").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as scratch:
        opened = open_storage(storage or study_url(Path(scratch)), create=True)
        study = optuna.create_study(storage=opened, study_name=f"benchmark-{time.time_ns()}", sampler=optuna.samplers.RandomSampler(seed=0))
        metrics = [f"metric{number}" for number in range(12)]
        began = time.perf_counter()
        for _ in range(trials):
            trial = study.ask()
            trial.suggest_float("learning_rate", 1e-5, 1e-1, log=True)
            for epoch in range(1, epochs + 1):
                trial.report(0.5, epoch)
                trial.set_user_attr("history", {name: [0.123456789] * epoch for name in metrics})
                trial.set_user_attr("facts", {"seconds": 1.0, "node": "alpha"})
            study.tell(trial, 0.5)
        seconds = time.perf_counter() - began
        optuna.delete_study(study_name=study.study_name, storage=opened)
    rows = {
        "a trial": {"milliseconds": round(1000 * seconds / trials, 1)},
        "an epoch": {"milliseconds": round(1000 * seconds / trials / epochs, 2)},
    }
    database = opened.url.partition(":")[0]
    report_table(f"{trials} trials of {epochs} epochs into {database}", rows, {"storage": database, "trials": trials, **rows}, json_file)


if __name__ == "__main__":
    app()
