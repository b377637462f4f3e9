"""The engine, measured on replayed trials: what a search costs over its training, and what its driver bears.

    python tests/benchmarks/engine.py overhead [--trials 1000] [--seconds 10] [--slots 16] [--json FILE]
    python tests/benchmarks/engine.py driver [--ended 100 --ended 1000 --ended 10000] [--json FILE]

`overhead` compares the wall time of a search with its ideal, trials × seconds / slots, and with what Ray Tune alone takes for the same
trials in the same run: random configurations, no Optuna, no record. The slots are logical: replayed trials sleep. `driver` resumes
studies in which so many trials have ended for 60 more that take no time, each in a process of its own, one after another.
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
from datetime import datetime
from pathlib import Path
from random import Random
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from cluster.connect import ENVIRONMENT, LOOPBACK
from search.config import SearchConfig, read_config
from search.watcher import SilentWatcher
from trainables.worker.simulated_trial import SimulatedTrial, Simulation, curve

app = typer.Typer(add_completion=False, no_args_is_help=True, help=__doc__)
Json = Annotated[Path | None, typer.Option("--json", help="file for the figures")]
MORE = 60
"""Trials that a study is resumed for."""


class Clock(SilentWatcher):
    """Notes when trials are about to start, when the first one begins, and when the last one has ended."""

    def begin(self, *about: Any) -> None:
        self.began, self.cpu_began, self.first = time.perf_counter(), time.process_time(), None
        self.plan = about[1]

    def event(self, event: Any) -> None:
        self.first = self.first or time.perf_counter()

    def finishing(self) -> None:
        self.ended, self.cpu_ended = time.perf_counter(), time.process_time()

    @property
    def wall(self) -> float:
        """Seconds from the start of the main loop to its end."""
        return self.ended - self.began

    @property
    def cpu(self) -> float:
        """Processor seconds of this process in that time."""
        return self.cpu_ended - self.cpu_began


@app.command()
def overhead(trials: int = 1000, seconds: float = 10.0, slots: int = 16, epochs: int = 10, json_file: Json = None) -> None:
    """Compare a search with the ideal and with bare Ray Tune."""
    ideal = trials * seconds / slots
    replayed = SimulatedTrial.of(Simulation(seconds=seconds))
    rows = {}
    for name, measure in {"bare Ray Tune": bare, "injerto": engine}.items():
        with tempfile.TemporaryDirectory() as scratch, local_ray(slots):
            wall, cpu = measure(Path(scratch), replayed, trials=trials, epochs=epochs, slots=slots)
        rows[name] = {
            "wall_seconds": round(wall, 1),
            "over_ideal": round(wall / ideal, 3),
            "driver_ms_per_trial": round(1000 * cpu / trials, 1),
        }
    ratio = rows["injerto"]["wall_seconds"] / rows["bare Ray Tune"]["wall_seconds"]
    about = {"trials": trials, "seconds": seconds, "slots": slots, "epochs": epochs, "processors": len(os.sched_getaffinity(0))}
    title = f"{trials} trials of {seconds:g} s on {slots} slots: ideal {ideal:.1f} s; injerto / bare {ratio:.3f}"
    conclude(title, rows, {**about, "ideal_seconds": ideal, "engine_over_bare": round(ratio, 3), **rows}, json_file)


def engine(scratch: Path, replayed: type[SimulatedTrial], *, trials: int, epochs: int, slots: int) -> tuple[float, float]:
    """Return the wall and the driver's processor seconds of a search; no rung stops a trial."""
    from search.driver.launch import launch

    clock = Clock()
    record = launch(study_config(scratch, trials=trials, epochs=epochs, slots=slots), clock, trainable=replayed)
    check(record.counts["finished"], trials)
    return clock.wall, clock.cpu


def bare(scratch: Path, replayed: type[SimulatedTrial], *, trials: int, epochs: int, slots: int) -> tuple[float, float]:
    """Return the same of Ray Tune by itself, over random configurations."""
    from ray import tune

    from trainables.config import DataConfig, TrialConfig
    from trainables.worker.trainable import Assignment

    numbers, draw = itertools.count(), Random(0)

    def assignment(spec: Any) -> dict[str, Any]:
        number = next(numbers)
        trial = TrialConfig(epochs=epochs, seed=number, learning_rate=10 ** draw.uniform(-5, -1), dropout=draw.uniform(0, 0.5))
        folder = str(scratch / "trials" / f"{number:05d}")
        drawn = Assignment(
            number=number, trial=trial, data=DataConfig(), task="multiclass", fingerprint="", metric="accuracy", folder=folder
        )
        return drawn.model_dump(mode="json")

    tuner = tune.Tuner(
        tune.with_resources(replayed, {"cpu": 1}),
        param_space={"assignment": tune.sample_from(assignment)},
        tune_config=tune.TuneConfig(metric="objective", mode="max", num_samples=trials, max_concurrent_trials=slots, reuse_actors=True),
        run_config=tune.RunConfig(name="bare", storage_path=str(scratch), verbose=0),
    )
    began, cpu = time.perf_counter(), time.process_time()
    results = tuner.fit()
    taken = time.perf_counter() - began, time.process_time() - cpu
    check(sum(result.metrics["done"] for result in results), trials)
    return taken


@app.command()
def driver(ended: Annotated[list[int], typer.Option(help="trials in the record")] = [100, 1000, 10_000], json_file: Json = None) -> None:  # noqa: B006
    """Measure a resumed driver by how many trials its study has."""
    rows = {}
    for number in ended:
        with tempfile.TemporaryDirectory() as scratch:
            subprocess.run([sys.executable, __file__, "fill", scratch, str(number)], check=True)
            done = subprocess.run([sys.executable, __file__, "resumed", scratch], check=True, stdout=subprocess.PIPE, text=True)
            rows[str(number)] = json.loads(done.stdout.splitlines()[-1])
            rows[str(number)]["record_mb"] = round((Path(scratch) / "studies.db").stat().st_size / 1e6, 1)
    conclude(f"a driver by the trials that have ended in its study, over {MORE} more", rows, rows, json_file)


@app.command(hidden=True)
def fill(scratch: Path, trials: int) -> None:
    """Make a study of so many ended trials, as a search would have left them: the best few with their states, the others without."""
    import optuna

    from search.driver.launch import launch
    from search.record.records import study_record
    from search.record.store import load_study, open_storage
    from trainables.config import TrialConfig

    clock = Clock()
    config = study_config(scratch, trials=1, epochs=10, slots=2)
    launch(config, clock, trainable=SimulatedTrial)
    storage = open_storage(config.storage)
    study = load_study(storage, config.name)
    pattern, space = study.trials[0], clock.plan.space
    proposing = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    with quick_writes(storage):
        for _ in range(1, trials):
            storage.create_new_trial(study._study_id, template_trial=ended_trial(proposing.ask(), space, clock.plan, pattern))
    written = study.user_attrs["config"]
    study.set_user_attr("config", written | {"budget": written["budget"] | {"trials": trials}})
    record = study_record(study)
    check(record.counts["finished"] + record.counts["stopped"], trials)
    for trial in record.ranking[: config.keep.best]:
        values = curve(TrialConfig.model_validate(trial.config))
        state = Path(trial.attributes["checkpoint"])
        state.parent.mkdir(parents=True, exist_ok=True)
        state.write_text(json.dumps({"epoch": len(values), "seconds": 0.0, "history": {"objective": values}}))


def ended_trial(trial: Any, space: Any, plan: Any, pattern: Any) -> Any:
    """Return a trial that ended at its second epoch, as two in three do, or at its last, in the form of one that a search has run."""
    from optuna.trial import TrialState, create_trial

    from trainables.worker.trainable import progress

    number = trial.number + 1
    config = plan.assigned(number, space.suggest(trial))
    finished = number % 3 == 0
    done = config.epochs if finished else 2
    values = curve(config)[:done]
    own = {
        "config": config.model_dump(mode="json"),
        "epochs_done": done,
        "objective_epoch": done,
        "seed": config.seed,
        "checkpoint": pattern.user_attrs["checkpoint"].replace("00000", f"{number:05d}"),
        "stop_reason": "" if finished else "rung 11% of its epochs: replayed",
    }
    frozen = create_trial(
        state=TrialState.COMPLETE if finished else TrialState.PRUNED,
        value=values[-1] if finished else None,
        params=trial.params,
        distributions=trial.distributions,
        user_attrs=pattern.user_attrs | own,
        system_attrs=pattern.system_attrs,
        intermediate_values={progress(epoch, config.epochs): value for epoch, value in enumerate(values, 1)},
    )
    frozen.datetime_start = frozen.datetime_complete = datetime.now()
    return frozen


@contextmanager
def quick_writes(storage: Any) -> Iterator[None]:
    """Let SQLite not wait for the disk: what is lost with the machine is only a benchmark."""
    from sqlalchemy import event

    def relax(connection: Any, _: Any) -> None:
        connection.execute("PRAGMA synchronous=OFF")

    storage.engine.dispose()
    event.listen(storage.engine, "connect", relax)
    yield
    event.remove(storage.engine, "connect", relax)


@app.command(hidden=True)
def resumed(scratch: Path) -> None:
    """Resume such a study and print what its driver took."""
    from search.driver.launch import resume

    clock, called = Clock(), time.perf_counter()
    record = resume("filled", f"sqlite:///{scratch}/studies.db", clock, add_trials=MORE, trainable=SimulatedTrial)
    check(record.counts["finished"] + record.counts["stopped"], int(record.config["budget"]["trials"]))
    figures = {
        "to_first_trial_seconds": round(clock.first - called, 2),
        "cpu_ms_per_trial": round(1000 * clock.cpu / MORE, 1),
        "wall_ms_per_trial": round(1000 * clock.wall / MORE, 1),
        "peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
    }
    print(json.dumps(figures))


def study_config(scratch: Path, *, trials: int, epochs: int, slots: int) -> SearchConfig:
    """Return a search over the built-in digits by rungs of none, its record in `scratch`."""
    options = {"name": "filled", "storage": f"sqlite:///{scratch}/studies.db", "output": str(scratch / "out"), "weights": "none"}
    settings = (f"space.epochs={epochs}", "algorithm.scheduler=none", "resources.cpus_per_trial=1", "resources.gpus_per_trial=0")
    return read_config("builtin:digits", options | {"trials": trials, "max_concurrent_trials": slots}, settings)


@contextmanager
def local_ray(slots: int) -> Iterator[None]:
    """A Ray of so many logical processors for the length of a block, as `cluster.connect.connect` starts it."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
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


def check(found: int, wanted: int) -> None:
    """Refuse to give figures of a run that was not whole."""
    if found != wanted:
        raise SystemExit(f"{found} trials ended as they should, of {wanted}")


def conclude(title: str, rows: dict[str, dict[str, float]], figures: dict[str, Any], json_file: Path | None) -> None:
    """Print a table, a line a row, and write the figures."""
    columns = list(next(iter(rows.values())))
    table = Table(title=title, title_justify="left", box=None)
    for column in ("", *columns):
        table.add_column(column.replace("_", " "), justify="right")
    for name, row in rows.items():
        table.add_row(name, *(f"{row[column]:g}" for column in columns))
    Console().print(table)
    if json_file is not None:
        json_file.write_text(json.dumps(figures, indent=2))


if __name__ == "__main__":
    app()
