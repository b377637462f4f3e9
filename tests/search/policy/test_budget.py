import pytest

from search.config import Budget
from search.policy.budget import BUDGETS, BestSoFar, gauges


def test_a_budget_without_a_limit_has_no_gauge():
    used = {"trials": 3, "time": 30.0, "gpu_hours": 0.5, "no_improvement": 1}
    trials, improvement = gauges(used, {"trials": 4, "time": None, "no_improvement": 2})
    assert (trials.name, trials.used, trials.limit, trials.unit) == ("trials", 3, 4, "trials")
    assert (improvement.name, improvement.used, improvement.limit, improvement.unit) == ("no improvement", 1, 2, "trials")


def test_every_budget_but_the_target_has_a_gauge():
    assert set(BUDGETS) == set(Budget.model_fields) - {"target"}


@pytest.mark.parametrize(("mode", "better", "worse"), [("max", 0.9, 0.7), ("min", 0.7, 0.9)])
def test_trials_are_counted_from_the_best_one(mode, better, worse):
    best = BestSoFar(mode)
    best.stopped()
    assert (best.value, best.trials_since) == (None, 0)
    best.completed(0.8)
    best.completed(0.8)
    best.completed(worse)
    best.stopped()
    assert (best.value, best.trials_since) == (0.8, 3)
    best.completed(better)
    assert (best.value, best.trials_since) == (better, 0)
