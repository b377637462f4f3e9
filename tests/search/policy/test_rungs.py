import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.policy.rungs import Rungs, Verdict, rung_positions


def results(rungs):
    """What each rung holds: position → trial → value."""
    return {position: {number: rung.key(key) for key, number in rung.ranking} for position, rung in rungs.rungs.items()}


@st.composite
def searches(draw):
    """Learning curves of some trials and an order in which their epochs are reported."""
    mode, factor = draw(st.sampled_from(["max", "min"])), draw(st.integers(2, 10))
    warmup = draw(st.sampled_from([0.0, 0.1, 0.4, 1.0]))
    curves = draw(st.lists(st.lists(st.floats(0, 1), min_size=1, max_size=12), min_size=1, max_size=14))
    order = draw(st.permutations([number for number, curve in enumerate(curves) for _ in curve]))
    return mode, factor, warmup, curves, order


def play(mode, factor, warmup, curves, order):
    """Report epochs in order, none of a trial that was stopped; return the rungs, the reports, and each verdict with its rung's results."""
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
def test_only_trials_beyond_the_cutoff_are_stopped(search):
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
def test_rungs_replayed_from_the_record_equal_those_of_the_search(search):
    mode, factor, warmup, curves, _ = search
    live, reported, _ = play(*search)
    replayed = Rungs(mode, factor)
    for number, values in reported.items():
        for epoch, value in enumerate(values, 1):
            replayed.enter(number, epoch=epoch, epochs=len(curves[number]), warmup=warmup, value=value)
    assert results(replayed) == results(live)


@pytest.mark.parametrize(("factor", "positions"), [(2, [250, 500]), (3, [111, 333]), (10, [10, 100])])
def test_rung_positions_are_one_over_the_factor_and_its_square(factor, positions):
    assert rung_positions(factor) == positions
    assert sorted(Rungs("max", factor).rungs) == positions


def test_the_worst_of_five_trials_is_stopped_with_a_reason():
    rungs = Rungs("max")
    for number, value in enumerate([0.9, 0.8, 0.7, 0.6]):
        assert rungs.observe(number, epoch=3, epochs=9, warmup=0.1, value=value) is None
    verdict = rungs.observe(4, epoch=3, epochs=9, warmup=0.1, value=0.5)
    assert verdict == Verdict(rung=333, value=0.5, cutoff=0.8, rank=5, of=5, ahead=0)
    assert verdict.as_text("max") == "rung 33% of its epochs: 0.5 < cutoff 0.8, rank 5 of 5, behind trial 0"
    assert "0.5 > cutoff" in verdict.as_text("min")


def test_values_that_are_not_finite_enter_no_rung():
    rungs = Rungs("max")
    assert rungs.observe(1, epoch=3, epochs=9, warmup=0.1, value=math.nan) is None
    assert not any(results(rungs).values())
