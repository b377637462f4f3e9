import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.policy.stop_condition import StopCondition


def test_the_reason_is_the_budget_that_is_used_up_or_the_interruption():
    assert StopCondition("max", trials=3).reason() is None
    assert StopCondition("max", trials=3, seconds=10, used_seconds=10).reason() == "the time budget of 10 s is over"
    stop_condition = StopCondition("max", trials=3, seconds=100, target=0.9)
    stop_condition.completed(0.8)
    assert stop_condition.reason() is None
    stop_condition.completed(0.95)
    stop_condition.completed(0.5)
    assert stop_condition.best == 0.95
    assert stop_condition.reason() == "the target 0.9 is reached"
    stop_condition.interrupt("interrupted by SIGINT")
    assert stop_condition.reason() == "interrupted by SIGINT"
    assert stop_condition("any", {}) is True
    assert stop_condition.stop_all() is False


def test_a_target_of_a_minimized_metric_ends_the_search():
    stop_condition = StopCondition("min", trials=3, target=0.2)
    stop_condition.completed(0.3)
    assert not stop_condition("any", {"objective": 0.5})
    stop_condition.completed(0.2)
    assert stop_condition("any", {"objective": 0.5})


@pytest.mark.parametrize("result", [{}, {"objective": math.nan}, {"objective": math.inf}])
def test_a_trial_without_a_finite_objective_ends(result):
    assert StopCondition("max", trials=3)("any", result)


def test_trials_in_a_row_without_improvement_end_the_search():
    stop_condition = StopCondition("max", trials=30, no_improvement=3)
    stop_condition.stopped()  # before anything has finished there is nothing to improve on
    for value in (0.5, 0.4):
        stop_condition.completed(value)
    stop_condition.failed()
    stop_condition.stopped()
    assert stop_condition.reason() is None
    stop_condition.completed(0.5)
    assert stop_condition.reason() == "3 trials in a row brought no improvement"
    assert stop_condition.ended == 6


def test_used_gpu_seconds_end_the_search_at_their_budget():
    stop_condition = StopCondition("max", trials=30, gpu_seconds=7200)
    stop_condition.used_gpu_seconds = 7199
    assert stop_condition.reason() is None
    stop_condition.used_gpu_seconds = 7200
    assert stop_condition.reason() == "the budget of 2 GPU-hours is used up"


def test_gauges_show_the_budgets_that_have_a_limit():
    stop_condition = StopCondition("max", trials=4, seconds=100, no_improvement=2, used_seconds=50)
    stop_condition.completed(1.0)
    stop_condition.completed(0.5)
    trials, time, improvement = stop_condition.gauges()
    assert (trials.used, trials.limit, trials.unit, trials.share) == (2, 4, "trials", 0.5)
    assert (time.name, time.limit, time.unit) == ("time", 100, "s")
    assert time.used == pytest.approx(50, abs=5)
    assert (improvement.used, improvement.limit) == (1, 2)


def test_an_interruption_is_reported_before_other_reasons():
    stop_condition = StopCondition("max", trials=4, seconds=1, used_seconds=2)
    stop_condition.finish("by hand")
    stop_condition.give_up("all failed")
    stop_condition.interrupt("SIGINT")
    stop_condition.interrupt("a later reason does not count")
    assert stop_condition.reason() == "SIGINT"


@given(st.integers(0, 20), st.integers(1, 20))
def test_trials_are_proposed_until_the_budget_is_used_up(proposed, trials):
    stop_condition = StopCondition("max", trials=trials)
    assert stop_condition.may_propose(proposed) == (proposed < trials)
    stop_condition.interrupt("stop")
    assert not stop_condition.may_propose(proposed)


def test_elapsed_time_includes_earlier_runs():
    assert StopCondition("max", trials=1, used_seconds=42).elapsed() == pytest.approx(42, abs=1)
