"""Measures the default recipe and random configurations on the workers for ``injerto plan``."""

import contextlib
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
from optuna.samplers import RandomSampler

from cluster.connect import connect
from search.config import SearchConfig
from search.forecast.forecast import Demand, Forecast, Measure, Room, forecast
from search.formatting import duration
from search.nodes.resources import TrialResources, assignment_factory, fit_to_cluster
from search.plan import Plan
from search.policy.faults import classify_error
from search.policy.rungs import LEAST_RESULTS
from search.record.artifacts import study_root
from search.space.space import Space
from trainables.config import TrialConfig
from trainables.errors import ConfigError, ResourceError
from trainables.storage.locations import is_url

READY_SECONDS = 300.0
MEASURES_A_SLOT = 4
"""Configurations that each slot can measure at least: one measurement takes at most the whole time divided by this."""
OnMeasurement = Callable[[float, int], None]
"""Called with the seconds spent on measuring and the number of configurations measured."""


@dataclass
class Measurements:
    """What the workers measured, the default recipe first; `failed` counts the configurations that failed.

    `start` is the seconds until the workers were ready; `memory` and `gpu` are the bytes of the smallest machine and the smallest GPU.
    """

    start: float = 0.0
    measures: list[Measure] = field(default_factory=list)
    failed: int = 0
    memory: int = 0
    gpu: int = 0


def measure_plan(plan: Plan, *, seconds: float = 60.0, on_measurement: OnMeasurement = lambda spent, measured: None) -> Forecast:
    """Measure on the cluster for about `seconds` and return what a search of this plan will take.

    It writes no study and leaves no files. Raises ``ConfigError`` if the default recipe fails, or as `forecast` does if the search cannot
    work; other ``InjertoError`` if the cluster cannot run it.
    """
    config = plan.config
    root = study_root(config.root, "plan", config.output / "plan")
    with _in_temporary_folder(), connect(config.resources.address) as capacity:
        resources = fit_to_cluster(capacity, config)
        measured = measure_configurations(plan, root, resources, seconds, on_measurement)
    room = Room(disk=None if is_url(root) else free_disk(Path(root)), memory=measured.memory, gpu=measured.gpu)
    demand = demand_of(config, resources, measured.start)
    return forecast(measured.measures, demand, room, failed=measured.failed, cache_bytes=int(plan.dataset.images.nbytes))


@contextlib.contextmanager
def _in_temporary_folder() -> Iterator[None]:
    """While the block runs, the working folder is an empty temporary one, as in a search it is the study's.

    Ray puts the driver's folder first on the import path of every worker, where a user's file could hide a package.
    """
    with tempfile.TemporaryDirectory(prefix="injerto-plan-") as folder, contextlib.chdir(folder):
        yield


def demand_of(config: SearchConfig, resources: TrialResources, start: float) -> Demand:
    """Return what a configuration asks for; `start` is the seconds before the first trial trains.

    Rungs count only if the search has enough trials for a rung to stop one.
    """
    budget, algorithm = config.budget, config.algorithm
    return Demand(
        trials=budget.trials,
        slots=resources.slots,
        start=start,
        rungs=algorithm.stops_early and budget.trials > max(LEAST_RESULTS, algorithm.reduction_factor),
        time=budget.time,
        gpu_seconds=budget.gpu_seconds,
        gpus=resources.gpus,
        keep=config.keep.best,
        keep_bytes=config.keep.disk,
    )


def configurations(space: Space, seed: int) -> Iterator[TrialConfig]:
    """Yield the default recipe as the search would run it, then random configurations of the space without end."""
    yield space.config(space.default_params())
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(sampler=RandomSampler(seed=seed))
    while True:
        yield space.suggest(study.ask())


def measure_configurations(plan: Plan, root: str, resources: TrialResources, seconds: float, on_measurement: OnMeasurement) -> Measurements:
    """Let as many workers as the search would have measure configurations for about `seconds`, and return the measurements.

    The time counts from when all workers have started. `root` is where a search would keep its states. Raises ``ConfigError`` if the
    default recipe fails, ``ResourceError`` if the workers do not start in time.
    """
    import ray

    from trainables.worker.cost_probe import CostProbe

    measured, assign = Measurements(), assignment_factory(plan, root, resources)
    numbered = enumerate(configurations(plan.space, plan.config.seed))
    worker: Any = ray.remote(**resources.remote_options())(CostProbe)
    began = time.monotonic()
    probes = [worker.remote() for _ in range(resources.slots)]
    running: dict[Any, tuple[Any, int, TrialConfig]] = {}

    def begin(probe: Any) -> None:
        number, config = next(numbered)
        assignment = assign(number, config).model_dump(mode="json")
        running[probe.measure.remote(assignment, 1, seconds / MEASURES_A_SLOT)] = probe, number, config

    _wait_until_ready(probes)
    measured.start = time.monotonic() - began
    for probe in probes:
        begin(probe)
    while running:
        done, _ = ray.wait(list(running), timeout=0.5)
        for future in done:
            probe, number, config = running.pop(future)
            lost = _add_result(measured, future, number, config)
            if time.monotonic() - began - measured.start < seconds:
                begin(worker.remote() if lost else probe)
        on_measurement(time.monotonic() - began, len(measured.measures))
    return measured


def _wait_until_ready(probes: list[Any]) -> None:
    import ray

    starting = [probe.get_ready.remote() for probe in probes]
    ready, missing = ray.wait(starting, num_returns=len(starting), timeout=READY_SECONDS)
    if missing:
        raise ResourceError(
            f"only {len(ready)} of {len(starting)} workers began within {duration(READY_SECONDS)}; if others use the cluster, "
            f"plan for what is left: --max-concurrent-trials {max(1, len(ready))}"
        )
    ray.get(ready)


def _add_result(measured: Measurements, future: Any, number: int, config: TrialConfig) -> bool:
    """Add a worker's result to `measured`, and return whether the worker is lost, so that a new one must replace it.

    `number` is 0 for the default recipe. Raises ``ConfigError`` if that failed; any other failure is only counted.
    """
    import ray

    try:
        values, lost = ray.get(future), False
        failure = f"{values['failure']['kind']}: {values['failure']['message']}" if "failure" in values else None
    except ray.exceptions.RayError as error:
        failure, lost = classify_error(error).as_text(), not isinstance(error, ray.exceptions.RayTaskError)
    if failure is None:
        place = 0 if number == 0 else len(measured.measures)
        measured.measures.insert(place, _measure(config, values))
        measured.memory = min(measured.memory or values["machine_bytes"], values["machine_bytes"])
        measured.gpu = min(measured.gpu or values["machine_gpu_bytes"], values["machine_gpu_bytes"])
        return False
    if number == 0:
        raise ConfigError(f"the default recipe fails here ({failure}); correct that first, because a search would fail in the same way")
    measured.failed += 1
    return lost


def _measure(config: TrialConfig, values: dict[str, Any]) -> Measure:
    epochs = values["seconds_per_epoch"]
    return Measure(
        config=config,
        build=values["seconds_to_build"],
        epoch=sum(epochs) / len(epochs),
        save=values["seconds_to_save"],
        shared=values["shared_seconds"],
        state_bytes=values["state_bytes"],
        weights_bytes=values["weights_bytes"],
        memory_bytes=values["memory_bytes"],
        gpu_bytes=values["gpu_bytes"],
    )


def free_disk(folder: Path) -> int:
    """Return the free bytes of the disk that holds a folder, or that will hold it if it does not exist."""
    return shutil.disk_usage(next(path for path in (folder, *folder.parents) if path.exists())).free
