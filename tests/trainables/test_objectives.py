import numpy as np
import pytest

from trainables.errors import ConfigError, DataError
from trainables.objectives import DIRECTIONS, METRICS, check_targets, is_better, objective


def test_every_metric_has_a_direction_that_decides_which_value_is_better():
    assert {name for name, mode in DIRECTIONS.items() if mode == "min"} == {"mae", "rmse", "mape", "hamming", "loss"}
    assert set(DIRECTIONS) == {name for names in METRICS.values() for name in names}
    assert is_better(0.9, 0.8, DIRECTIONS["accuracy"])
    assert is_better(0.8, 0.9, DIRECTIONS["mae"])
    assert not any(is_better(0.5, 0.5, mode) for mode in ("min", "max"))


@pytest.mark.parametrize(
    ("task", "counts", "metric"),
    [
        ("multiclass", (10, 20, 30), "accuracy"),
        ("multiclass", (10, 20, 31), "macro_f1"),
        ("multiclass", (10, 0, 30), "accuracy"),
        ("binary", (80, 20), "auroc"),
        ("binary", (20, 80), "auroc"),
        ("binary", (81, 19), "average_precision"),
        ("binary", (19, 81), "auroc"),
    ],
)
def test_the_default_objective_depends_on_the_balance_of_the_classes(task, counts, metric):
    assert objective(task, np.repeat(np.arange(len(counts)), counts)) == metric


def test_the_default_objective_of_other_tasks_and_a_chosen_one():
    assert objective("multilabel", np.eye(3)) == "map"
    assert objective("regression", np.arange(3.0)) == "mae"
    assert objective("regression", np.arange(3.0), "r2") == "r2"
    with pytest.raises(ConfigError, match="is not a metric of a binary task; known: accuracy"):
        objective("binary", np.array([0, 1]), "acuracy")


def test_targets_that_a_loss_or_a_logarithm_cannot_be_computed_on_are_rejected():
    with pytest.raises(DataError, match="2 of 4 targets are 0"):
        check_targets("regression", "mape", "linear", np.array([0.0, 1.0, 0.0, 2.0]))
    with pytest.raises(DataError, match="the smallest is -1"):
        check_targets("regression", None, "log", np.array([-1.0, 1.0]))
    with pytest.raises(DataError, match="the smallest is 0"):
        check_targets("regression", None, "log", np.array([0.0, 1.0]))
    with pytest.raises(ConfigError, match="the task is binary"):
        check_targets("binary", None, "log", np.array([0, 1]))
    check_targets("regression", "mse", "linear", np.array([0.0, -1.0]))
    check_targets("regression", "mape", "log", np.array([1.0, 2.0]))
