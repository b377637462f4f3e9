import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.driver.retention import Retention

VALUES = st.none() | st.sampled_from([0.1, 0.2, 0.3, 0.5, math.nan]) | st.floats(-5, 5)
SIZES = st.integers(0, 9)


@st.composite
def endings(draw, sizes=SIZES):
    """Trials in the order in which they end: number, whether finished, value, bytes."""
    numbers = draw(st.permutations(range(draw(st.integers(1, 12)))))
    return [(number, draw(st.booleans()), draw(VALUES), draw(sizes)) for number in numbers]


def failed(value):
    return value is None or not math.isfinite(value)


def rank(trial):
    number, finished, value, _ = trial
    return (not finished, -value, number)


def kept_after(retention, trials):
    """Return number → bytes of the checkpoints that are kept when trials end in order, none of them noted while it ran."""
    kept = {}
    for number, finished, value, size in trials:
        kept[number] = size
        for dropped in retention.ended(number, finished, value, str(number), size):
            del kept[int(dropped)]
    return kept


def reference(trials, best, disk):
    """Return what must be kept: the longest head of the ranking that fits beside the best and the default recipe."""
    ranking = sorted((trial for trial in trials if not failed(trial[2])), key=rank)
    kept = dict.fromkeys((trial[0] for trial in ranking[:1]), ranking[0][3] if ranking else 0)
    default = [trial for trial in ranking if trial[0] == 0]
    for number, *_, size in [*default, *ranking[1:best]]:
        if number in kept:
            continue
        if sum(kept.values()) + size > disk:
            break
        kept[number] = size
    return kept


@given(endings(), st.integers(1, 4), st.permutations(range(12)))
def test_the_best_and_the_default_recipe_are_kept_in_any_order_of_ends(trials, best, order):
    expected = reference(trials, best, math.inf)
    assert kept_after(Retention("max", best), trials) == expected
    assert kept_after(Retention("max", best), sorted(trials, key=lambda trial: order[trial[0]])) == expected


@given(endings(sizes=st.just(1)), st.integers(1, 4), st.integers(2, 6), st.permutations(range(12)))
def test_within_the_disk_budget_the_top_of_the_ranking_is_kept_in_any_order_of_ends(trials, best, disk, order):
    expected = reference(trials, best, disk)
    assert kept_after(Retention("max", best, disk), trials) == expected
    assert kept_after(Retention("max", best, disk), sorted(trials, key=lambda trial: order[trial[0]])) == expected


@given(endings(), st.integers(1, 4), st.integers(1, 20))
def test_the_disk_budget_holds_unless_only_the_best_is_left(trials, best, disk):
    retention, kept, seen = Retention("max", best, disk), {}, []
    running = {number: size for number, _, _, size in trials}
    for number, size in running.items():
        assert retention.size(number, size) == []
    for number, finished, value, size in trials:
        seen.append((number, finished, value, size))
        kept[number] = running.pop(number)
        dropped = retention.ended(number, finished, value, str(number), size)
        assert len(set(dropped)) == len(dropped)
        for location in dropped:
            del kept[int(location)]
        ranking = sorted((trial for trial in seen if not failed(trial[2])), key=rank)
        assert kept.keys() >= {trial[0] for trial in ranking[:1]}
        assert kept.keys() <= {trial[0] for trial in ranking[:best]} | {0}
        fits = sum(kept.values()) + sum(running.values()) <= disk
        assert fits or len(kept) <= 1
        assert (retention.shortage() is None) == fits


@given(endings(), st.integers(1, 4))
def test_minimizing_equals_maximizing_the_negative(trials, best):
    opposite = [(number, finished, None if value is None else -value, size) for number, finished, value, size in trials]
    assert kept_after(Retention("min", best), opposite) == kept_after(Retention("max", best), trials)


def test_stopped_trials_are_kept_until_others_finish():
    retention = Retention("max", best=2)
    assert retention.ended(1, False, 0.9, "one", 1) == []
    assert retention.ended(2, False, 0.8, "two", 1) == []
    assert retention.ended(3, True, 0.1, "three", 1) == ["two"]
    assert retention.ended(4, True, 0.2, "four", 1) == ["one"]
    assert retention.ended(5, False, 0.99, "five", 1) == ["five"]


def test_a_growing_trial_displaces_the_worst_then_the_default_recipe_but_not_the_best():
    retention = Retention("max", disk=10)
    for number, value in enumerate((0.1, 0.3, 0.2)):
        assert retention.ended(number, True, value, str(number), 2) == []
    assert retention.size(7, 4) == []
    assert retention.size(7, 5) == ["2"]
    assert retention.size(8, 3) == ["0"]
    assert retention.shortage() is None
    assert retention.size(8, 4) == []
    assert "more than keep.disk allows" in retention.shortage()
    assert retention.ended(7, True, 0.25, "7", 5) == ["7"]
    assert retention.shortage() is None


def test_a_trial_without_a_checkpoint_drops_nothing():
    retention = Retention("max", best=1, disk=5)
    assert retention.ended(1, False, None, None, 0) == []
    assert retention.ended(2, True, 0.5, None, 0) == []
    assert retention.ended(3, True, 0.4, "three", 1) == ["three"]


def test_the_cost_of_an_end_does_not_grow_with_the_number_of_trials():
    """Counts comparisons of checkpoints, which are the cost of an end, instead of time."""
    retention, compared = Retention("max", best=3), 0

    class Counted(float):
        def __lt__(self, other):
            nonlocal compared
            compared += 1
            return float.__lt__(self, other)

        __mul__ = __rmul__ = lambda self, other: Counted(float(self) * other)

    counts = []
    for number in range(10_000):
        before = compared
        retention.ended(number, True, Counted((number * 7919) % 10_007 / 10_007), "x", 1)
        counts.append(compared - before)
    assert max(counts[5_000:]) <= max(counts[:5_000])
    assert max(counts) <= 12


@pytest.mark.parametrize(("disk", "words"), [(5e6, "2 running trials take 6.0 MB and the best one's 1.0 MB"), (20e6, None)])
def test_the_shortage_message_names_the_sizes(disk, words):
    retention = Retention("min", disk=disk)
    retention.size(1, 3_000_000)
    retention.size(2, 3_000_000)
    retention.ended(0, True, 0.5, "zero", 1_000_000)
    assert words in (retention.shortage() or "") if words else retention.shortage() is None
