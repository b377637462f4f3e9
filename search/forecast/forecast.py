"""From what a few configurations took to what a whole search will: time, disk, memory; plans that cannot work are refused."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import mean, stdev
from typing import Any

from search.formatting import duration
from trainables.config import TrialConfig
from trainables.errors import ConfigError
from trainables.storage.cache import show_bytes

RUNG_SHARE = 0.5
"""Part of the planned epochs that is run where rungs stop weak trials: 126 of 224 in a search of 16 trials on the digits."""
CONFIDENCE = 0.8
UNKNOWN_SPREAD = 2.0
"""Factor either way where one configuration alone was measured."""
RECORD_BYTES = 20_000
MEMORY_SHARE = 0.95
"""Part of a machine's memory from which on Ray ends its largest process."""


@dataclass(frozen=True)
class Measure:
    """What one configuration took: seconds to build, of an epoch and to save its state; bytes of the state, the weights, the memory."""

    config: TrialConfig
    build: float
    epoch: float
    save: float
    state_bytes: int = 0
    weights_bytes: int = 0
    memory_bytes: int = 0
    gpu_bytes: int = 0

    def seconds(self, share: float = 1.0) -> float:
        """Return the seconds of a trial that runs a share of its epochs."""
        return self.build + share * self.config.epochs * (self.epoch + self.save)


@dataclass(frozen=True)
class Room:
    """What there is: bytes of free disk where states go (None for a bucket), of a node's memory and of a GPU."""

    disk: int | None
    memory: int
    gpu: int = 0


@dataclass(frozen=True)
class Demand:
    """What is asked: trials at most, at a time, by which budgets; `start` is the seconds before the first trial trains."""

    trials: int
    slots: int
    start: float = 0.0
    rungs: bool = True
    time: float | None = None
    gpu_seconds: float | None = None
    gpus: float = 0.0
    keep: int = 3
    keep_bytes: float | None = None


@dataclass(frozen=True)
class Band:
    """An estimate and the 80 % interval around it."""

    low: float
    middle: float
    high: float


def sum_band(seconds: Sequence[float], trials: int) -> tuple[float, float]:
    """Return the middle and the half width of the 80 % prediction interval of the sum of `trials` new draws, given some.

    The sum of N draws less N times the mean of n others varies by s √(N + N²/n); t has n - 1 degrees of freedom
    (Hahn & Meeker 1991, "Statistical Intervals", section 4.8.2). One draw alone has no spread: the half width is then infinite.
    """
    from scipy.special import stdtrit

    count, middle = len(seconds), trials * mean(seconds)
    if count < 2:
        return middle, math.inf
    return middle, float(stdtrit(count - 1, (1 + CONFIDENCE) / 2)) * stdev(seconds) * math.sqrt(trials + trials**2 / count)


def time_band(measures: Sequence[Measure], demand: Demand, trials: int) -> Band:
    """Return the seconds that `trials` take on the slots: low with rungs, high without.

    The last trials leave slots idle: the end comes (1 - 1/slots) of half a trial later than the sum over the slots, in the middle and
    at the high end.
    """
    share = RUNG_SHARE if demand.rungs else 1.0
    slots = min(demand.slots, trials)
    whole, part = [m.seconds() for m in measures], [m.seconds(share) for m in measures]
    (sum_whole, wide), (sum_part, narrow) = sum_band(whole, trials), sum_band(part, trials)
    high = sum_whole + wide if math.isfinite(wide) else UNKNOWN_SPREAD * sum_whole
    low = sum_part - narrow if math.isfinite(narrow) else sum_part / UNKNOWN_SPREAD
    low = max(low, trials * min(part))
    tail = (1 - 1 / slots) / 2
    middle = (sum_whole + sum_part) / 2 / slots + tail * mean(part)
    return Band(demand.start + low / slots, demand.start + middle, demand.start + high / slots + tail * mean(whole))


@dataclass(frozen=True)
class Forecast:
    """What a search will take. Seconds and bytes; `trials` are those that the budgets let run, few to many."""

    measured: int
    failed: int
    default_seconds: float
    mean_seconds: float
    trials_per_hour: tuple[float, float]
    trials: tuple[int, int]
    time: Band
    budget_trials: int
    slots: int
    rungs: bool
    state_bytes: int
    disk_bytes: int
    disk_free_bytes: int | None
    cache_bytes: int
    memory_bytes: int
    machine_memory_bytes: int
    gpu_bytes: int
    machine_gpu_bytes: int

    def as_json(self) -> dict[str, Any]:
        """Return what ``plan --json`` promises: the fields, as they are named here."""
        return asdict(self)


def forecast(measures: Sequence[Measure], demand: Demand, room: Room, *, failed: int = 0, cache_bytes: int = 0) -> Forecast:
    """Return what a search will take, from measures of which the first is the default recipe's.

    Raises ``ConfigError`` if the plan cannot hold one whole trial of the default recipe, or the disk or the memory cannot.
    """
    default = measures[0].seconds()
    share = RUNG_SHARE if demand.rungs else 1.0
    whole, part = mean(m.seconds() for m in measures), mean(m.seconds(share) for m in measures)
    fewest, most = bought(whole, demand), bought(part, demand)
    state = max(m.state_bytes for m in measures)
    found = Forecast(
        measured=len(measures),
        failed=failed,
        default_seconds=default,
        mean_seconds=whole,
        trials_per_hour=(demand.slots * 3600 / whole, demand.slots * 3600 / part),
        trials=(fewest, most),
        time=limited(time_band(measures, demand, demand.trials), demand),
        budget_trials=demand.trials,
        slots=demand.slots,
        rungs=demand.rungs,
        state_bytes=state,
        disk_bytes=disk(measures, demand),
        disk_free_bytes=room.disk,
        cache_bytes=cache_bytes,
        memory_bytes=demand.slots * max(m.memory_bytes for m in measures),
        machine_memory_bytes=room.memory,
        gpu_bytes=max(m.gpu_bytes for m in measures),
        machine_gpu_bytes=room.gpu,
    )
    check(found, demand)
    return found


def bought(seconds: float, demand: Demand) -> int:
    """Return how many trials of so many seconds the budgets let run, at least the first."""
    by_time = math.inf if demand.time is None else demand.slots * max(0.0, demand.time - demand.start) / seconds
    by_gpu = math.inf if demand.gpu_seconds is None or not demand.gpus else demand.gpu_seconds / (demand.gpus * seconds)
    return max(1, int(min(demand.trials, by_time, by_gpu)))


def limited(band: Band, demand: Demand) -> Band:
    """Return a time band under a time budget: nothing takes longer than that, but for the epoch that is running then."""
    if demand.time is None:
        return band
    return Band(*(min(seconds, demand.time) for seconds in (band.low, band.middle, band.high)))


def disk(measures: Sequence[Measure], demand: Demand) -> int:
    """Return the bytes that a search writes: the states of the best, of the default recipe and of running trials; weights; the record."""
    state, weights = max(m.state_bytes for m in measures), max(m.weights_bytes for m in measures)
    kept = (demand.keep + 1) * state
    kept = kept if demand.keep_bytes is None else min(kept, int(demand.keep_bytes))
    return kept + demand.slots * state + weights + demand.trials * RECORD_BYTES


def check(found: Forecast, demand: Demand) -> None:
    """Raise ``ConfigError`` for a plan that cannot hold one whole trial of the default recipe."""
    one = duration(found.default_seconds)
    needed = demand.start + found.default_seconds
    if demand.time is not None and demand.time < needed:
        raise ConfigError(
            f"a whole trial of the default recipe takes about {one}, with the start {duration(needed)}, but budget.time is "
            f"{duration(demand.time)}; allow more time, or make a trial shorter: --set space.epochs=N, a smaller --image-size"
        )
    if demand.gpu_seconds is not None and demand.gpu_seconds < demand.gpus * found.default_seconds:
        raise ConfigError(
            f"a whole trial of the default recipe takes about {one} of {demand.gpus:g} GPUs, but budget.gpu_hours is "
            f"{demand.gpu_seconds / 3600:.3g}; allow {demand.gpus * found.default_seconds / 3600:.3g} at least, or make a trial shorter: "
            "--set space.epochs=N"
        )
    if found.disk_free_bytes is not None and found.disk_bytes > found.disk_free_bytes:
        raise ConfigError(
            f"the search writes about {show_bytes(found.disk_bytes)}, of which each state takes {show_bytes(found.state_bytes)}, but the "
            f"disk of the output has {show_bytes(found.disk_free_bytes)} free; make room, name another --output, or keep fewer: "
            "--set keep.best=1"
        )
    if found.memory_bytes > MEMORY_SHARE * found.machine_memory_bytes:
        fits = int(MEMORY_SHARE * found.machine_memory_bytes * found.slots / found.memory_bytes)
        remedy = f"--max-concurrent-trials {fits}" if fits else "--set space.batch_size=16, or a smaller --image-size"
        raise ConfigError(
            f"{found.slots} trials at a time take about {show_bytes(found.memory_bytes)} of memory, but the machine has "
            f"{show_bytes(found.machine_memory_bytes)}; run fewer or smaller ones: {remedy}"
        )
