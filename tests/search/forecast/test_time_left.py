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
    estimate.hear(Event("began", 0, CONFIG))
    estimate.hear(Event("began", 1, CONFIG))
    assert estimate.seconds_left() is None
    clock.seconds += 10
    estimate.hear(Event("epoch", 0, CONFIG, epoch=1))
    assert estimate.seconds_left() == pytest.approx((3 * 10 + (4 + 1) * 40) / 2)
    estimate.hear(Event("finished", 0, CONFIG, epoch=4, seconds=20.0))
    estimate.hear(Event("stopped", 1, CONFIG, epoch=2, seconds=30.0))
    assert estimate.ended == 2
    assert estimate.seconds_left() == pytest.approx(4 * 25 / 2)


def test_trials_to_come_are_expected_to_take_their_share_until_five_have_ended(clock):
    estimate = Estimate(trials=10, slots=1, share=0.5)
    for number in range(4):
        estimate.hear(Event("began", number, CONFIG))
        estimate.hear(Event("finished", number, CONFIG, seconds=8.0))
    assert estimate.seconds_left() == pytest.approx(6 * 8 * 0.5)
    estimate.hear(Event("began", 4, CONFIG))
    estimate.hear(Event("stopped", 4, CONFIG, seconds=3.0))
    assert estimate.seconds_left() == pytest.approx(5 * (4 * 8 + 3) / 5)


def test_a_trial_that_goes_on_is_paced_by_its_new_epochs(clock):
    estimate = Estimate(trials=1, slots=1)
    estimate.hear(Event("began", 0, CONFIG, epoch=2))
    clock.seconds += 5
    estimate.hear(Event("epoch", 0, CONFIG, epoch=3))
    assert estimate.seconds_left() == pytest.approx(5)
    clock.seconds += 300
    estimate.hear(Event("retry", 0, CONFIG, epoch=2))
    assert estimate.seconds_left() is None
    clock.seconds += 6
    estimate.hear(Event("epoch", 0, CONFIG, epoch=3))
    assert estimate.seconds_left() == pytest.approx(6)


def test_a_search_that_has_ended_has_no_seconds_left(clock):
    estimate = Estimate(trials=2, slots=2, ended=1)
    estimate.hear(Event("began", 1, CONFIG))
    estimate.hear(Event("finished", 1, CONFIG, seconds=3.0))
    assert estimate.seconds_left() == 0


def test_a_paused_trial_has_not_ended(clock):
    estimate = Estimate(trials=2, slots=1)
    estimate.hear(Event("began", 0, CONFIG))
    estimate.hear(Event("paused", 0, CONFIG, seconds=3.0))
    assert estimate.ended == 0
    assert estimate.seconds_left() is None


def test_an_epoch_of_a_trial_that_was_not_heard_to_begin(clock):
    estimate = Estimate(trials=1, slots=1)
    estimate.hear(Event("epoch", 0, CONFIG, epoch=1))
    clock.seconds += 4
    estimate.hear(Event("epoch", 0, CONFIG, epoch=2))
    assert estimate.seconds_left() == pytest.approx(8)


def test_a_search_with_no_slot_in_use():
    assert seconds_left([], [10.0], waiting=3, slots=0) == pytest.approx(30)
    assert seconds_left([Pace(10.0, 2, 2, 4)], [], waiting=-1, slots=1) == pytest.approx(10)
