import math

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.policy.time_limits import EpochCost, TimeLimits, epoch_costs, expected_seconds
from tests.search.conftest import make_space

SECONDS = st.floats(0.01, 1e4)
DEPTHS = st.floats(0, 1)


def distributions(seconds, costs=(), changes=None, **values):
    """Return the narrowed ranges of depth and epochs, and the space."""
    space = make_space(changes or {})
    limits = TimeLimits(seconds, costs, space.recipe, space.stages)
    fields = space.recipe.model_dump() | values
    ranges = {p.sets: limits.distribution(p, fields, min(space.possible_values("epochs"))) for p in space.parameters}
    return ranges, space


def whole(space, name):
    return next(p.distribution for p in space.parameters if p.sets == name)


@given(SECONDS, DEPTHS, DEPTHS, st.sampled_from([32, 96, 160]))
def test_one_trial_is_expected_to_cost_what_it_costs_and_others_in_proportion(seconds, depth, other, side):
    costs = [EpochCost(depth, 96, seconds)]
    assert expected_seconds(costs, depth, 96) == pytest.approx(seconds)
    expected = seconds * math.exp(2 * (other - depth)) * (side / 96) ** 2
    assert expected_seconds(costs, other, side) == pytest.approx(expected)


@given(st.lists(st.tuples(DEPTHS, SECONDS), min_size=1, max_size=20), SECONDS)
def test_the_expected_seconds_scale_with_the_measured_ones(measured, factor):
    costs = [EpochCost(depth, 64, seconds) for depth, seconds in measured]
    slower = [EpochCost(cost.depth, 64, cost.seconds * factor) for cost in costs]
    assert expected_seconds(slower, 0.5, 64) == pytest.approx(factor * expected_seconds(costs, 0.5, 64))


def test_many_measurements_outweigh_the_expected_slope():
    costs = [EpochCost(depth, 64, 10 * math.exp(0.5 * depth)) for depth in (0.0, 0.2, 0.6, 1.0) for _ in range(20)]
    assert expected_seconds(costs, 1.0, 64) == pytest.approx(10 * math.exp(0.5), rel=0.05)


def test_without_a_measurement_trials_are_at_most_as_deep_and_long_as_the_default_recipe():
    ranges, space = distributions(1e9)
    for name in ("unfrozen_stages", "epochs"):
        assert whole(space, name).high > getattr(space.recipe, name) or name == "unfrozen_stages"
        assert ranges[name].high == min(getattr(space.recipe, name), whole(space, name).high)
        assert ranges[name].low == whole(space, name).low


def test_enough_time_leaves_the_whole_range():
    ranges, space = distributions(1e9, [EpochCost(0.5, 32, 1.0)])
    assert all(ranges[p.sets] == p.distribution for p in space.parameters)


def test_epochs_are_those_that_fit_the_time_that_is_left():
    space = make_space({"epochs": {"low": 2, "high": 40}})
    depth = space.recipe.unfrozen_stages
    cost = EpochCost(depth / space.stages[space.recipe.backbone], space.recipe.image_size, 1.0)
    ranges, _ = distributions(10.0, [cost], {"epochs": {"low": 2, "high": 40}})
    assert (ranges["epochs"].low, ranges["epochs"].high) == (2, 9), "0.9 of the time may be used"


def test_a_depth_whose_fewest_epochs_do_not_fit_is_not_proposed():
    changes = {"epochs": {"low": 4, "high": 40}}
    space = make_space(changes)
    stages, side = space.stages[space.recipe.backbone], space.recipe.image_size
    costs = [EpochCost(depth / stages, side, math.exp(2 * depth / stages)) for depth in range(stages + 1)]
    for deepest in range(stages + 1):
        seconds = 4 * math.exp(2 * deepest / stages) / 0.9 + 1e-6
        ranges, _ = distributions(seconds, costs, changes)
        assert ranges["unfrozen_stages"].high == deepest


def test_the_lowest_values_stay_if_nothing_fits():
    ranges, space = distributions(0.0, [EpochCost(0.5, 32, 1.0)])
    for name in ("unfrozen_stages", "epochs"):
        assert ranges[name].high == ranges[name].low == whole(space, name).low


def test_fixed_and_listed_parameters_stay_as_they_are():
    ranges, space = distributions(0.0, [EpochCost(0.5, 32, 1.0)], {"epochs": [2, 50], "unfrozen_stages": 1})
    assert ranges["epochs"] == whole(space, "epochs")
    assert "unfrozen_stages" not in ranges


def test_costs_are_read_from_the_trials_that_have_an_epoch():
    study = optuna.create_study()
    for epochs, config in ((2, {"backbone": "a", "unfrozen_stages": 1, "image_size": 64}), (0, {}), (1, {"backbone": "gone"})):
        trial = study.ask()
        trial.set_user_attr("config", config)
        trial.set_user_attr("facts", {"seconds_total": 6.0})
        for epoch in range(epochs):
            trial.report(0.5, epoch + 1)
    assert epoch_costs(study.get_trials(), {"a": 4}) == [EpochCost(0.25, 64, 3.0)]


def test_narrowed_proposals_work_with_the_sampler_and_are_recorded_in_their_range():
    from search.policy.samplers import build_sampler

    space = make_space({"epochs": {"low": 1, "high": 40}})
    study = optuna.create_study(sampler=build_sampler("tpe", seed=0, trials=20))
    for number in range(20):
        trial = study.ask()
        seconds = 100.0 - 5 * number
        costs = [EpochCost(0.5, space.recipe.image_size, 2.0)]
        limits = TimeLimits(seconds, costs, space.recipe, space.stages)
        config = space.suggest(trial, lambda p, values, limits=limits: limits.distribution(p, values, 1))
        expected = expected_seconds(costs, config.unfrozen_stages / space.stages[config.backbone], config.image_size)
        assert config.epochs * expected <= 0.9 * seconds or config.epochs == 1
        assert config == space.config(trial.params)
        study.tell(trial, -abs(config.epochs - 5))
    assert len({trial.params["epochs"] for trial in study.trials}) > 3
