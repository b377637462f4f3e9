import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.policy.rungs import Rungs, StopCondition, Verdict


def results(rungs):
    """What each rung holds: trial → value."""
    return {at: {number: rung.sign * key for key, number in rung.ranking} for at, rung in rungs.rungs.items()}


@st.composite
def searches(draw):
    """Learning curves of some trials and an order in which their epochs are reported."""
    mode, factor = draw(st.sampled_from(["max", "min"])), draw(st.integers(2, 10))
    warmup = draw(st.sampled_from([0.0, 0.1, 0.4, 1.0]))
    curves = draw(st.lists(st.lists(st.floats(0, 1), min_size=1, max_size=12), min_size=1, max_size=14))
    order = draw(st.permutations([number for number, curve in enumerate(curves) for _ in curve]))
    return mode, factor, warmup, curves, order


def play(mode, factor, warmup, curves, order):
    """Report epochs in order until a trial is stopped; return the rungs, what was reported and the verdicts with what was known."""
    rungs, reported, verdicts = Rungs(mode, factor), {number: [] for number in range(len(curves))}, []
    for number in order:
        if any(verdict[0] == number for verdict in verdicts):
            continue
        curve, values = curves[number], reported[number]
        values.append(curve[len(values)])
        verdict = rungs.observe(number, epoch=len(values), epochs=len(curve), warmup=warmup, value=values[-1])
        if verdict:
            verdicts.append((number, len(values), verdict, results(rungs)[verdict.rung]))
    return rungs, reported, verdicts


@given(searches())
def test_who_is_stopped(search):
    mode, factor, warmup, curves, _ = search
    _, _, verdicts = play(*search)
    for number, epoch, verdict, found in verdicts:
        best = max(found.values()) if mode == "max" else min(found.values())
        assert number != 0
        assert len(found) >= max(5, factor)
        assert 2 <= epoch < len(curves[number])
        assert round(1000 * epoch / len(curves[number])) >= max(verdict.rung, 1000 * warmup)
        assert verdict.value != best
        better = [value for value in found.values() if (value > verdict.value if mode == "max" else value < verdict.value)]
        assert len(better) >= math.ceil(len(found) / factor)
        assert verdict.of == len(found)
        assert verdict.rank > len(better)
        assert found[verdict.ahead] == best


@given(searches())
def test_replaying_the_record_gives_the_same_rungs(search):
    mode, factor, warmup, curves, _ = search
    live, reported, _ = play(*search)
    replayed = Rungs(mode, factor)
    for number, values in reported.items():
        for epoch, value in enumerate(values, 1):
            replayed.enter(number, epoch=epoch, epochs=len(curves[number]), warmup=warmup, value=value)
    assert results(replayed) == results(live)


def test_rungs_stand_at_a_ninth_and_a_third():
    assert sorted(Rungs("max", 3).rungs) == [111, 333]


def test_the_worst_of_five_is_stopped_and_says_why():
    rungs = Rungs("max")
    for number, value in enumerate([0.9, 0.8, 0.7, 0.6]):
        assert rungs.observe(number, epoch=3, epochs=9, warmup=0.1, value=value) is None
    verdict = rungs.observe(4, epoch=3, epochs=9, warmup=0.1, value=0.5)
    assert verdict == Verdict(rung=333, value=0.5, cutoff=0.8, rank=5, of=5, ahead=0)
    assert verdict.in_words("max") == "rung 33% of its epochs: 0.5 < cutoff 0.8, rank 5 of 5, behind trial 0"
    assert "0.5 > cutoff" in verdict.in_words("min")


def test_values_that_are_not_numbers_enter_no_rung():
    rungs = Rungs("max")
    assert rungs.observe(1, epoch=3, epochs=9, warmup=0.1, value=math.nan) is None
    assert not any(results(rungs).values())


def test_reasons_to_end():
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


def test_a_target_to_be_minimized():
    stop_condition = StopCondition("min", trials=3, target=0.2)
    stop_condition.completed(0.3)
    assert not stop_condition("any", {"objective": 0.5})
    stop_condition.completed(0.2)
    assert stop_condition("any", {"objective": 0.5})


@pytest.mark.parametrize("result", [{}, {"objective": math.nan}, {"objective": math.inf}])
def test_a_trial_that_reports_no_number_ends(result):
    assert StopCondition("max", trials=3)("any", result)


def test_trials_without_improvement():
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


def test_gpu_hours():
    stop_condition = StopCondition("max", trials=30, gpu_seconds=7200)
    stop_condition.used_gpu_seconds = 7199
    assert stop_condition.reason() is None
    stop_condition.used_gpu_seconds = 7200
    assert stop_condition.reason() == "the budget of 2 GPU-hours is used up"


def test_gauges_show_the_budgets_that_there_are():
    stop_condition = StopCondition("max", trials=4, seconds=100, no_improvement=2, used_seconds=50)
    stop_condition.completed(1.0)
    stop_condition.completed(0.5)
    trials, time, improvement = stop_condition.gauges()
    assert (trials.used, trials.limit, trials.unit, trials.share) == (2, 4, "trials", 0.5)
    assert (time.name, time.limit, time.unit) == ("time", 100, "s")
    assert time.used == pytest.approx(50, abs=5)
    assert (improvement.used, improvement.limit) == (1, 2)


def test_reasons_have_an_order():
    stop_condition = StopCondition("max", trials=4, seconds=1, used_seconds=2)
    stop_condition.finish("by hand")
    stop_condition.give_up("all failed")
    stop_condition.interrupt("SIGINT")
    stop_condition.interrupt("a later word does not count")
    assert stop_condition.reason() == "SIGINT"


@given(st.integers(0, 20), st.integers(1, 20))
def test_trials_are_proposed_up_to_the_budget(proposed, trials):
    stop_condition = StopCondition("max", trials=trials)
    assert stop_condition.may_propose(proposed) == (proposed < trials)
    stop_condition.interrupt("stop")
    assert not stop_condition.may_propose(proposed)


def test_time_counts_earlier_runs():
    assert StopCondition("max", trials=1, used_seconds=42).elapsed() == pytest.approx(42, abs=1)
