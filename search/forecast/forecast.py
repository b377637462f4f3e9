"""Predicts the time, disk and memory of a whole search from a few measured configurations, and rejects searches that cannot work."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import mean, stdev
from typing import Any

from search.forecast.time_left import SHARE_WITH_RUNGS
from search.formatting import duration
from trainables.config import TrialConfig
from trainables.errors import ConfigError
from trainables.storage.byte_sizes import show_bytes

CONFIDENCE = 0.8
SINGLE_MEASURE_FACTOR = 2.0
"""Factor between the middle and either end of an interval where only one configuration was measured."""
RECORD_BYTES = 20_000
"""Bytes of the record for each trial."""
MEMORY_SHARE = 0.95
"""Share of a machine's memory above which Ray ends the largest process."""


@dataclass(frozen=True)
class Measure:
    """What one configuration took.

    `build`, `epoch` and `save` are the seconds to build the network, for one epoch, and to save a state; `shared` are those for activations
    of frozen stages, which the first of several trials computes for all. `state_bytes` and `weights_bytes` are the sizes of a saved state
    and of the network's weights, `memory_bytes` and `gpu_bytes` the most main memory and GPU memory.
    """

    config: TrialConfig
    build: float
    epoch: float
    save: float
    shared: float = 0.0
    state_bytes: int = 0
    weights_bytes: int = 0
    memory_bytes: int = 0
    gpu_bytes: int = 0

    def seconds(self, share: float = 1.0, first: float = 1.0) -> float:
        """Return the seconds of a trial that runs this share of its epochs, saving after each.

        `first` is the probability that no trial before has computed the activations that it shares.
        """
        return self.build + first * self.shared + share * self.config.epochs * (self.epoch + self.save)

    @property
    def views(self) -> tuple[Any, ...]:
        """What the shared activations depend on; not the depth, because trials of other depths need little more."""
        config = self.config
        return config.backbone, config.image_size, config.evaluation_size, config.augmentation_strength, config.augmentation_ops


@dataclass(frozen=True)
class Room:
    """What there is, in bytes: free disk where states are kept (None for a bucket), memory of the smallest node and of the smallest GPU."""

    disk: int | None
    memory: int
    gpu: int = 0


@dataclass(frozen=True)
class Demand:
    """What a search asks for: trials in all and at a time (`slots`), and its budgets.

    `start` is the seconds before the first trial trains, `rungs` whether rungs stop trials, `time` and `gpu_seconds` the budgets in seconds
    (None: no limit). `gpus` is the GPUs of a trial, `keep` the number of best trials whose states are kept, `keep_bytes` the limit of their
    size.
    """

    trials: int
    slots: int
    start: float = 0.0
    rungs: bool = True
    time: float | None = None
    gpu_seconds: float | None = None
    gpus: float = 0.0
    keep: int = 3
    keep_bytes: float | None = None

    @property
    def share(self) -> float:
        """The estimated share of its epochs that an average trial runs."""
        return SHARE_WITH_RUNGS if self.rungs else 1.0


@dataclass(frozen=True)
class Interval:
    """An estimate in seconds, and the two ends of the 80 % interval around it."""

    low: float
    middle: float
    high: float


def sum_interval(seconds: Sequence[float], trials: int) -> tuple[float, float]:
    """Return the middle and the half width of the 80 % prediction interval of the total seconds of `trials` new trials.

    `seconds` are those of measured trials. The sum of N new draws minus N times the mean of n other draws has the standard deviation
    s √(N + N²/n); t has n - 1 degrees of freedom (Hahn & Meeker 1991, "Statistical Intervals", section 4.8.2). A single draw shows no
    spread: then the half width is infinite.
    """
    from scipy.special import stdtrit

    count, middle = len(seconds), trials * mean(seconds)
    if count < 2:
        return middle, math.inf
    return middle, float(stdtrit(count - 1, (1 + CONFIDENCE) / 2)) * stdev(seconds) * math.sqrt(trials + trials**2 / count)


def share_of_first(measures: Sequence[Measure], trials: int) -> float:
    """Return the expected share of `trials` that compute shared activations because no trial before has.

    Configurations are taken to be as frequent in a search as they are among the measured ones.
    """
    frequencies = [count / len(measures) for count in Counter(m.views for m in measures).values()]
    return sum(1 - (1 - frequency) ** trials for frequency in frequencies) / trials


def time_interval(measures: Sequence[Measure], demand: Demand, trials: int) -> Interval:
    """Return the seconds that `trials` take on the slots: the low end if rungs stop trials, the high end if no trial is stopped.

    The seconds of the start are included. The last trials leave slots idle. At the middle and at the high end the search therefore ends
    (1 - 1/slots) of half a trial later than the sum over the slots.
    """
    slots, first = min(demand.slots, trials), share_of_first(measures, trials)
    whole, part = [m.seconds(first=first) for m in measures], [m.seconds(demand.share, first) for m in measures]
    (sum_whole, whole_half_width), (sum_part, part_half_width) = sum_interval(whole, trials), sum_interval(part, trials)
    high = sum_whole + whole_half_width if math.isfinite(whole_half_width) else SINGLE_MEASURE_FACTOR * sum_whole
    low = sum_part - part_half_width if math.isfinite(part_half_width) else sum_part / SINGLE_MEASURE_FACTOR
    low = max(low, trials * min(part))
    tail = (1 - 1 / slots) / 2
    middle = (sum_whole + sum_part) / 2 / slots + tail * mean(part)
    return Interval(demand.start + low / slots, demand.start + middle, demand.start + high / slots + tail * mean(whole))


@dataclass(frozen=True)
class Forecast:
    """What a search will take, in seconds and bytes.

    `measured` and `failed` count configurations. `default_seconds` and `mean_seconds` are those of a trial with all its epochs: of the
    default recipe, and on average. `trials_per_hour` and `trials` are (fewest, most), without and with rungs that stop trials; `trials` is
    what the budgets allow, `budget_trials` what was asked for. `disk_free_bytes` is None for a bucket. `cache_bytes` is the size of the
    decoded images, `memory_bytes` the main memory of all slots together, `gpu_bytes` the GPU memory of one trial.
    """

    measured: int
    failed: int
    default_seconds: float
    mean_seconds: float
    trials_per_hour: tuple[float, float]
    trials: tuple[int, int]
    time: Interval
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
        """Return the object that ``plan --json`` prints; its keys are the fields' names."""
        return asdict(self)


def forecast(measures: Sequence[Measure], demand: Demand, room: Room, *, failed: int = 0, cache_bytes: int = 0) -> Forecast:
    """Return what a search will take. The first measure is the default recipe's; `failed` counts configurations that failed.

    Raises ``ConfigError`` if a time budget has no room for one whole trial of the default recipe, or if the disk or the memory is too small
    for the search; see `check_budget` and `check_room`.
    """
    first = share_of_first(measures, demand.trials)
    whole, part = mean(m.seconds(first=first) for m in measures), mean(m.seconds(demand.share, first) for m in measures)
    prediction = Forecast(
        measured=len(measures),
        failed=failed,
        default_seconds=measures[0].seconds(),
        mean_seconds=whole,
        trials_per_hour=(demand.slots * 3600 / whole, demand.slots * 3600 / part),
        trials=(affordable_trials(whole, demand), affordable_trials(part, demand)),
        time=limit_to_budget(time_interval(measures, demand, demand.trials), demand),
        budget_trials=demand.trials,
        slots=demand.slots,
        rungs=demand.rungs,
        state_bytes=max(m.state_bytes for m in measures),
        disk_bytes=disk_bytes(measures, demand),
        disk_free_bytes=room.disk,
        cache_bytes=cache_bytes,
        memory_bytes=demand.slots * max(m.memory_bytes for m in measures),
        machine_memory_bytes=room.memory,
        gpu_bytes=max(m.gpu_bytes for m in measures),
        machine_gpu_bytes=room.gpu,
    )
    check_budget(prediction, demand)
    check_room(prediction)
    return prediction


def affordable_trials(seconds: float, demand: Demand) -> int:
    """Return how many trials of `seconds` each the budgets of trials, time and GPU time allow, at least 1."""
    by_time = math.inf if demand.time is None else demand.slots * max(0.0, demand.time - demand.start) / seconds
    by_gpu = math.inf if demand.gpu_seconds is None or not demand.gpus else demand.gpu_seconds / (demand.gpus * seconds)
    return max(1, int(min(demand.trials, by_time, by_gpu)))


def limit_to_budget(interval: Interval, demand: Demand) -> Interval:
    """Return the interval with each value at most the time budget, because a search ends there; its last running epoch is neglected."""
    if demand.time is None:
        return interval
    return Interval(*(min(seconds, demand.time) for seconds in (interval.low, interval.middle, interval.high)))


def disk_bytes(measures: Sequence[Measure], demand: Demand) -> int:
    """Return about how many bytes a search writes.

    These are the states of the best, the default and the running trials, the largest network's weights, and the record.
    """
    state, weights = max(m.state_bytes for m in measures), max(m.weights_bytes for m in measures)
    kept = (demand.keep + 1) * state
    kept = kept if demand.keep_bytes is None else min(kept, int(demand.keep_bytes))
    return kept + demand.slots * state + weights + demand.trials * RECORD_BYTES


def check_budget(prediction: Forecast, demand: Demand) -> None:
    """Raise ``ConfigError`` if the budget of time or of GPU time is too small for one whole trial of the default recipe."""
    one = duration(prediction.default_seconds)
    needed = demand.start + prediction.default_seconds
    if demand.time is not None and demand.time < needed:
        raise ConfigError(
            f"a whole trial of the default recipe takes about {one}, with the start {duration(needed)}, but budget.time is "
            f"{duration(demand.time)}; allow more time, or make a trial shorter: --set space.epochs=N, a smaller --image-size"
        )
    gpu_seconds = demand.gpus * prediction.default_seconds
    if demand.gpu_seconds is not None and demand.gpu_seconds < gpu_seconds:
        raise ConfigError(
            f"a whole trial of the default recipe takes about {one} of {demand.gpus:g} GPUs, but budget.gpu_hours is "
            f"{demand.gpu_seconds / 3600:.3g}; allow at least {gpu_seconds / 3600:.3g}, or make a trial shorter: --set space.epochs=N"
        )


def check_room(prediction: Forecast) -> None:
    """Raise ``ConfigError`` if the search writes more than the free disk, or if its slots together need more memory than a machine has."""
    if prediction.disk_free_bytes is not None and prediction.disk_bytes > prediction.disk_free_bytes:
        raise ConfigError(
            f"the search writes about {show_bytes(prediction.disk_bytes)}, of which each state takes {show_bytes(prediction.state_bytes)}, "
            f"but the disk of the output has {show_bytes(prediction.disk_free_bytes)} free; make room, name another --output, or keep "
            "fewer: --set keep.best=1"
        )
    if prediction.memory_bytes > MEMORY_SHARE * prediction.machine_memory_bytes:
        fits = int(MEMORY_SHARE * prediction.machine_memory_bytes * prediction.slots / prediction.memory_bytes)
        remedy = f"--max-concurrent-trials {fits}" if fits else "--set space.batch_size=16, or a smaller --image-size"
        raise ConfigError(
            f"{prediction.slots} trials at a time take about {show_bytes(prediction.memory_bytes)} of memory, but the machine has "
            f"{show_bytes(prediction.machine_memory_bytes)}; run fewer or smaller trials: {remedy}"
        )
