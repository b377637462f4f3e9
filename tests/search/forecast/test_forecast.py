import math
from dataclasses import replace
from statistics import mean

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.forecast.forecast import (
    RECORD_BYTES,
    Demand,
    Measure,
    Room,
    affordable_trials,
    disk_bytes,
    forecast,
    share_of_first,
    sum_interval,
    time_interval,
)
from trainables.config import TrialConfig
from trainables.errors import ConfigError

ROOMY = Room(disk=10**12, memory=10**12)


def measured(epochs=10, build=2.0, epoch=0.9, save=0.1, **sizes):
    return Measure(TrialConfig(epochs=epochs), build=build, epoch=epoch, save=save, **sizes)


def of_seconds(*seconds):
    """Measures of trials that take so many seconds; half of the epochs take half of them."""
    return [measured(epochs=10, build=0.0, epoch=each / 10, save=0.0) for each in seconds]


def test_the_seconds_of_a_trial_are_its_build_and_its_epochs():
    assert measured().seconds() == pytest.approx(2 + 10 * (0.9 + 0.1))
    assert measured().seconds(0.5) == pytest.approx(2 + 5 * (0.9 + 0.1))


def test_shared_activations_are_computed_once_for_each_augmentation():
    """Two strengths, equally frequent: 10 trials compute 2 · (1 - ½¹⁰) of them."""
    measures = [
        Measure(TrialConfig(epochs=10, augmentation_strength=strength), build=1.0, epoch=0.9, save=0.1, shared=50.0)
        for strength in (0.25, 0.5)
    ]
    assert measures[0].seconds() == pytest.approx(1 + 50 + 10)
    assert share_of_first(measures, 1) == 1
    assert share_of_first(measures, 10) == pytest.approx(2 * (1 - 0.5**10) / 10)
    found = forecast(measures, Demand(trials=10, slots=1, rungs=False), ROOMY)
    assert found.default_seconds == pytest.approx(61)
    assert found.time.middle == pytest.approx(10 * 11 + 50 * 2 * (1 - 0.5**10))


def test_the_interval_of_a_sum_equals_one_by_hand():
    """Three draws 10, 20, 30: mean 20, s 10, t(2; 0.9) = 1.885618; of 4 new ones: 80 ± 1.885618 · 10 · √(4 + 16/3)."""
    middle, half = sum_interval([10, 20, 30], 4)
    assert middle == 80
    assert half == pytest.approx(1.885618 * 10 * math.sqrt(4 + 16 / 3), rel=1e-6)


def test_four_in_five_sums_are_in_the_interval():
    rng, inside = np.random.default_rng(0), 0
    for _ in range(1000):
        middle, half = sum_interval(list(rng.normal(100, 30, 8)), 20)
        inside += abs(rng.normal(100, 30, 20).sum() - middle) <= half
    assert inside == pytest.approx(800, abs=40)


def test_the_time_interval_equals_one_by_hand():
    """4 trials of 10, 20 or 30 s on 2 slots, 5 s to start; half of that with rungs; the last trials leave a quarter of a trial idle."""
    interval = time_interval(of_seconds(10, 20, 30), Demand(trials=4, slots=2, start=5), 4)
    half = 1.885618 * 10 * math.sqrt(4 + 16 / 3)
    assert interval.low == pytest.approx(5 + max(40 - half / 2, 4 * 5) / 2)
    assert interval.middle == pytest.approx(5 + (80 + 40) / 2 / 2 + 10 / 4)
    assert interval.high == pytest.approx(5 + (80 + half) / 2 + 20 / 4)


def test_without_rungs_the_middle_assumes_whole_trials():
    interval = time_interval(of_seconds(20, 20, 20), Demand(trials=6, slots=1, rungs=False), 6)
    assert (interval.low, interval.middle, interval.high) == pytest.approx((120, 120, 120))


def test_a_single_measure_gives_a_factor_of_two():
    interval = time_interval(of_seconds(20), Demand(trials=6, slots=1, rungs=False), 6)
    assert (interval.low, interval.middle, interval.high) == pytest.approx((120, 120, 240))


def test_more_slots_than_trials_change_nothing():
    two, many = (time_interval(of_seconds(10, 20, 30), Demand(trials=2, slots=slots), 2) for slots in (2, 50))
    assert two == many


@given(
    st.lists(st.floats(0.1, 1e5), min_size=1, max_size=20),
    st.integers(1, 1000),
    st.integers(1, 64),
    st.floats(0, 100),
    st.booleans(),
)
def test_an_interval_is_ordered_finite_and_after_the_start(seconds, trials, slots, start, rungs):
    interval = time_interval(of_seconds(*seconds), Demand(trials=trials, slots=slots, start=start, rungs=rungs), trials)
    assert start < interval.low <= interval.high < math.inf
    assert interval.low <= interval.middle * (1 + 1e-9)
    assert interval.middle <= interval.high * (1 + 1e-9)


def test_trials_per_hour_and_affordable_trials():
    found = forecast(of_seconds(60, 120, 180), Demand(trials=100, slots=3, time=1810, start=10), ROOMY)
    assert found.mean_seconds == 120
    assert found.trials_per_hour == pytest.approx((90, 180))
    assert found.trials == (45, 90)
    assert found.time.high == 1810
    assert forecast(of_seconds(60, 120, 180), Demand(trials=5, slots=3), ROOMY).trials == (5, 5)
    assert affordable_trials(100, Demand(trials=50, slots=4, gpu_seconds=1000, gpus=0.5)) == 20
    assert affordable_trials(100, Demand(trials=50, slots=4, gpu_seconds=1000, gpus=0)) == 50


def test_the_disk_bytes_equal_a_sum_by_hand():
    measures = [measured(state_bytes=100, weights_bytes=40), measured(state_bytes=60, weights_bytes=50)]
    assert disk_bytes(measures, Demand(trials=12, slots=2, keep=3)) == 100 * (3 + 1 + 2) + 50 + 12 * RECORD_BYTES
    assert disk_bytes(measures, Demand(trials=12, slots=2, keep=3, keep_bytes=250)) == 250 + 2 * 100 + 50 + 12 * RECORD_BYTES


WORKS = Demand(trials=12, slots=2, start=10, time=130, gpu_seconds=60, gpus=0.5)
SIZES = {"state_bytes": 10**8, "memory_bytes": 10**9}
REFUSED = {
    "time": (
        {"time": 129},
        ROOMY,
        r"default recipe takes about 2 min, with the start 2 min 10 s, but budget.time is 2 min 9 s; allow more",
    ),
    "gpu_hours": ({"gpu_seconds": 59}, ROOMY, r"takes about 2 min of 0.5 GPUs, but budget.gpu_hours is 0.0164; allow at least 0.0167"),
    "disk": (
        {},
        Room(disk=5 * 10**8, memory=10**12),
        r"writes about 600 MB, of which each state takes 100 MB, but .* 500 MB free; make room",
    ),
    "memory": ({}, Room(disk=10**12, memory=2 * 10**9), r"2 trials at a time take about 2 GB .* has 2 GB; .*--max-concurrent-trials 1"),
    "memory for one": ({"slots": 1}, Room(disk=10**12, memory=10**9), r"1 trials .*--set space.batch_size=16"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_plan_without_room_for_one_trial_is_refused(what):
    changes, room, message = REFUSED[what]
    recipe = measured(epochs=100, build=20, epoch=0.9, save=0.1, **SIZES)
    assert forecast([recipe], WORKS, ROOMY).default_seconds == 120
    with pytest.raises(ConfigError, match=message):
        forecast([recipe], replace(WORKS, **changes), room)


def test_the_json_has_the_names_of_the_fields():
    found = forecast(of_seconds(10, 20, 30), Demand(trials=4, slots=2), ROOMY, failed=1, cache_bytes=5).as_json()
    assert set(found["time"]) == {"low", "middle", "high"}
    assert (found["measured"], found["failed"], found["cache_bytes"], found["default_seconds"]) == (3, 1, 5, 10)
    assert found["mean_seconds"] == mean([10, 20, 30])
