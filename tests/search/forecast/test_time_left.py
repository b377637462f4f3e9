from types import SimpleNamespace

import pytest

import search.forecast.time_left
from search.events import Event
from search.forecast.time_left import Estimate, Pace, seconds_left
from trainables.config import TrialConfig

CONFIG = TrialConfig(epochs=4)


@pytest.fixture
def clock(monkeypatch):
    now = SimpleNamespace(seconds=100.0)
    monkeypatch.setattr(search.forecast.time_left.time, "monotonic", lambda: now.seconds)
    return now


def test_estimate_of_running_and_waiting_trials(clock):
    estimate = Estimate(trials=6, slots=2)
    estimate.update(Event("began", 0, CONFIG))
    estimate.update(Event("began", 1, CONFIG))
    assert estimate.seconds_left() is None
    clock.seconds += 10
    estimate.update(Event("epoch", 0, CONFIG, epoch=1))
    assert estimate.seconds_left() == pytest.approx((3 * 10 + (4 + 1) * 40) / 2)
    estimate.update(Event("finished", 0, CONFIG, epoch=4, seconds=20.0))
    estimate.update(Event("stopped", 1, CONFIG, epoch=2, seconds=30.0))
    assert estimate.ended == 2
    assert estimate.seconds_left() == pytest.approx(4 * 25 / 2)


def test_waiting_trials_count_as_a_share_until_five_trials_have_ended(clock):
    estimate = Estimate(trials=10, slots=1, share=0.5)
    for number in range(4):
        estimate.update(Event("began", number, CONFIG))
        estimate.update(Event("finished", number, CONFIG, seconds=8.0))
    assert estimate.seconds_left() == pytest.approx(6 * 8 * 0.5)
    estimate.update(Event("began", 4, CONFIG))
    estimate.update(Event("stopped", 4, CONFIG, seconds=3.0))
    assert estimate.seconds_left() == pytest.approx(5 * (4 * 8 + 3) / 5)


def test_a_resumed_trial_is_estimated_from_its_new_epochs(clock):
    estimate = Estimate(trials=1, slots=1)
    estimate.update(Event("began", 0, CONFIG, epoch=2))
    clock.seconds += 5
    estimate.update(Event("epoch", 0, CONFIG, epoch=3))
    assert estimate.seconds_left() == pytest.approx(5)
    clock.seconds += 300
    estimate.update(Event("retry", 0, CONFIG, epoch=2))
    assert estimate.seconds_left() is None
    clock.seconds += 6
    estimate.update(Event("epoch", 0, CONFIG, epoch=3))
    assert estimate.seconds_left() == pytest.approx(6)


def test_a_search_that_has_ended_has_no_seconds_left(clock):
    estimate = Estimate(trials=2, slots=2, ended=1)
    estimate.update(Event("began", 1, CONFIG))
    estimate.update(Event("finished", 1, CONFIG, seconds=3.0))
    assert estimate.seconds_left() == 0


def test_a_paused_trial_does_not_count_as_ended(clock):
    estimate = Estimate(trials=2, slots=1)
    estimate.update(Event("began", 0, CONFIG))
    estimate.update(Event("paused", 0, CONFIG, seconds=3.0))
    assert estimate.ended == 0
    assert estimate.seconds_left() is None


def test_an_epoch_without_a_began_event_starts_the_clock(clock):
    estimate = Estimate(trials=1, slots=1)
    estimate.update(Event("epoch", 0, CONFIG, epoch=1))
    clock.seconds += 4
    estimate.update(Event("epoch", 0, CONFIG, epoch=2))
    assert estimate.seconds_left() == pytest.approx(8)


def test_seconds_left_with_no_slot_or_a_negative_count():
    assert seconds_left([], [10.0], waiting=3, slots=0) == pytest.approx(30)
    assert seconds_left([Pace(10.0, 2, 2, 4)], [], waiting=-1, slots=1) == pytest.approx(10)
