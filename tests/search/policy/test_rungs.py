import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.policy.rungs import Ending, Rungs, Verdict


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
    assert Ending("max", trials=3).reason() is None
    assert Ending("max", trials=3, seconds=10, used_seconds=10).reason() == "the time budget of 10 s is over"
    ending = Ending("max", trials=3, seconds=100, target=0.9)
    ending.completed(0.8)
    assert ending.reason() is None
    ending.completed(0.95)
    ending.completed(0.5)
    assert ending.best == 0.95
    assert ending.reason() == "the target 0.9 is reached"
    ending.interrupt("interrupted by SIGINT")
    assert ending.reason() == "interrupted by SIGINT"
    assert ending("any", {}) is True
    assert ending.stop_all() is False


def test_a_target_to_be_minimized():
    ending = Ending("min", trials=3, target=0.2)
    ending.completed(0.3)
    assert not ending("any", {"objective": 0.5})
    ending.completed(0.2)
    assert ending("any", {"objective": 0.5})


@pytest.mark.parametrize("result", [{}, {"objective": math.nan}, {"objective": math.inf}])
def test_a_trial_that_reports_no_number_ends(result):
    assert Ending("max", trials=3)("any", result)


def test_trials_without_improvement():
    ending = Ending("max", trials=30, no_improvement=3)
    ending.stopped()  # before anything has finished there is nothing to improve on
    for value in (0.5, 0.4):
        ending.completed(value)
    ending.failed()
    ending.stopped()
    assert ending.reason() is None
    ending.completed(0.5)
    assert ending.reason() == "3 trials in a row brought no improvement"
    assert ending.ended == 6


def test_gpu_hours():
    ending = Ending("max", trials=30, gpu_seconds=7200)
    ending.used_gpu_seconds = 7199
    assert ending.reason() is None
    ending.used_gpu_seconds = 7200
    assert ending.reason() == "the budget of 2 GPU-hours is used up"


def test_gauges_show_the_budgets_that_there_are():
    ending = Ending("max", trials=4, seconds=100, no_improvement=2, used_seconds=50)
    ending.completed(1.0)
    ending.completed(0.5)
    trials, time, improvement = ending.gauges()
    assert (trials.used, trials.limit, trials.unit, trials.share) == (2, 4, "trials", 0.5)
    assert (time.name, time.limit, time.unit) == ("time", 100, "s")
    assert time.used == pytest.approx(50, abs=5)
    assert (improvement.used, improvement.limit) == (1, 2)


def test_reasons_have_an_order():
    ending = Ending("max", trials=4, seconds=1, used_seconds=2)
    ending.finish("by hand")
    ending.give_up("all failed")
    ending.interrupt("SIGINT")
    ending.interrupt("a later word does not count")
    assert ending.reason() == "SIGINT"


@given(st.integers(0, 20), st.integers(1, 20))
def test_trials_are_proposed_up_to_the_budget(proposed, trials):
    ending = Ending("max", trials=trials)
    assert ending.may_propose(proposed) == (proposed < trials)
    ending.interrupt("stop")
    assert not ending.may_propose(proposed)


def test_time_counts_earlier_runs():
    assert Ending("max", trials=1, used_seconds=42).elapsed() == pytest.approx(42, abs=1)
