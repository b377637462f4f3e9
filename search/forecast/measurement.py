"""`injerto plan`: measures the default recipe and random configurations on the workers for a while, and says what a search will take."""

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
from search.nodes.resources import TrialResources, assignment_factory, fit
from search.plan import Plan
from search.policy.faults import fault_of
from search.record.store import study_root
from search.space.space import Space
from trainables.config import TrialConfig
from trainables.errors import ConfigError, ResourceError
from trainables.storage.locations import is_url

READY_SECONDS = 300.0
MEASURES_A_SLOT = 4
"""Measures that a slot has time for, at least: none lasts longer than that part of the whole."""
Told = Callable[[float, int], None]
"""Hears the seconds spent on measuring and the configurations measured."""


@dataclass
class Survey:
    """What the workers found: measures, the default recipe's first; the seconds until they were ready; memory of the smallest of them."""

    start: float = 0.0
    measures: list[Measure] = field(default_factory=list)
    failed: int = 0
    memory: int = 0
    gpu: int = 0


def calibrate(plan: Plan, *, seconds: float = 60.0, told: Told | None = None) -> Forecast:
    """Measure for about so many seconds and return what a search of this plan will take. Writes no study and leaves nothing behind.

    Raises ``ConfigError`` if the plan cannot hold one whole trial of the default recipe, `InjertoError` for whatever else cannot work.
    """
    config = plan.config
    root = study_root(config.root, "plan", config.output / "plan")
    with _away(), connect(config.resources.address) as capacity:
        resources = fit(capacity, config)
        found = survey(plan, root, resources, seconds, told or (lambda spent, measured: None))
    room = Room(disk=None if is_url(root) else free_disk(Path(root)), memory=found.memory, gpu=found.gpu)
    wanted = demand(config, resources, found.start)
    return forecast(found.measures, wanted, room, failed=found.failed, cache_bytes=int(plan.dataset.images.nbytes))


@contextlib.contextmanager
def _away() -> Iterator[None]:
    """Work in a folder of its own, as a search does: Ray puts the driver's first on every worker's path."""
    with tempfile.TemporaryDirectory(prefix="injerto-plan-") as folder, contextlib.chdir(folder):
        yield


def demand(config: SearchConfig, resources: TrialResources, start: float) -> Demand:
    """Return what a configuration asks of the machine; rungs that no trial can be stopped at count for nothing."""
    from search.policy.rungs import SMALLEST_RUNG

    budget, algorithm = config.budget, config.algorithm
    return Demand(
        trials=budget.trials,
        slots=resources.slots,
        start=start,
        rungs=algorithm.scheduler != "none" and budget.trials > max(SMALLEST_RUNG, algorithm.reduction_factor),
        time=budget.time,
        gpu_seconds=None if budget.gpu_hours is None else 3600 * budget.gpu_hours,
        gpus=resources.gpus,
        keep=config.keep.best,
        keep_bytes=config.keep.disk,
    )


def configurations(space: Space, seed: int) -> Iterator[TrialConfig]:
    """Yield the default recipe as the search would run it, then configurations drawn at random."""
    yield space.config(space.default_params())
    study = optuna.create_study(sampler=RandomSampler(seed=seed))
    while True:
        yield space.suggest(study.ask())


def survey(plan: Plan, root: str, resources: TrialResources, seconds: float, told: Told) -> Survey:
    """Let as many workers as a search has measure configurations until the time is over. Raises ``ConfigError`` if the recipe fails."""
    import ray

    from trainables.worker.cost_probe import Meter

    found, assign = Survey(), assignment_factory(plan, root, resources)
    wanted = enumerate(configurations(plan.space, plan.config.seed))
    worker: Any = ray.remote(**resources.options())(Meter)
    began = time.monotonic()
    meters = [worker.remote() for _ in range(resources.slots)]
    running: dict[Any, tuple[Any, int, TrialConfig]] = {}

    def begin(meter: Any) -> None:
        number, config = next(wanted)
        assignment = assign(number, config).model_dump(mode="json")
        running[meter.measure.remote(assignment, 1, seconds / MEASURES_A_SLOT)] = meter, number, config

    _wait([meter.get_ready.remote() for meter in meters])
    found.start = time.monotonic() - began
    for meter in meters:
        begin(meter)
    while running:
        done, _ = ray.wait(list(running), timeout=0.5)
        for future in done:
            meter, number, config = running.pop(future)
            lost = _take(found, future, number, config)
            if time.monotonic() - began - found.start < seconds:
                begin(worker.remote() if lost else meter)
        told(time.monotonic() - began, len(found.measures))
    return found


def _wait(starting: list[Any]) -> None:
    import ray

    ready, missing = ray.wait(starting, num_returns=len(starting), timeout=READY_SECONDS)
    if missing:
        raise ResourceError(
            f"only {len(ready)} of {len(starting)} workers began within {duration(READY_SECONDS)}; if others use the cluster, "
            f"plan for what is left: --max-concurrent-trials {max(1, len(ready))}"
        )
    ray.get(ready)


def _take(found: Survey, future: Any, number: int, config: TrialConfig) -> bool:
    """Note what a measure gave, and say whether its worker was lost. Raises ``ConfigError`` if it was the default recipe's and failed."""
    import ray

    try:
        values, lost = ray.get(future), False
        failure = f"{values['failure']['kind']}: {values['failure']['message']}" if "failure" in values else None
    except ray.exceptions.RayError as error:
        failure, lost = fault_of(error).in_words(), not isinstance(error, ray.exceptions.RayTaskError)
    if failure is None:
        place = 0 if number == 0 else len(found.measures)
        found.measures.insert(place, _measure(config, values))
        found.memory = min(found.memory or values["machine_bytes"], values["machine_bytes"])
        found.gpu = min(found.gpu or values["machine_gpu_bytes"], values["machine_gpu_bytes"])
        return False
    if number == 0:
        raise ConfigError(f"the default recipe fails here ({failure}); mend that first, a search would not go better")
    found.failed += 1
    return lost


def _measure(config: TrialConfig, values: dict[str, Any]) -> Measure:
    epochs = values["seconds_per_epoch"]
    return Measure(
        config=config,
        build=values["seconds_to_build"],
        epoch=sum(epochs) / len(epochs),
        save=values["seconds_to_save"],
        state_bytes=values["state_bytes"],
        weights_bytes=values["weights_bytes"],
        memory_bytes=values["memory_bytes"],
        gpu_bytes=values["gpu_bytes"],
    )


def free_disk(folder: Path) -> int:
    """Return the bytes that are free where a folder is, or would be."""
    return shutil.disk_usage(next(path for path in (folder, *folder.parents) if path.exists())).free
