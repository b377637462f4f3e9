import pytest
from optuna.distributions import CategoricalDistribution

from tests.search.conftest import make_space
from tests.search.space.asking import ask
from trainables.errors import ConfigError
from trainables.recipe import LEARNING_RATE


def test_a_fixed_parameter_is_not_searched():
    space = make_space({"epochs": 3, "optimizer": "sgd", "learning_rate": 0.05, "head_layers": 3})
    assert space.recipe.epochs == 3
    assert space.recipe.head_layers == 3
    config, params = ask(space)
    assert (config.optimizer, config.learning_rate) == ("sgd", 0.05)
    assert params.keys() & {"epochs", "optimizer", "learning_rate", "head_layers"} == set()


def test_a_fixed_learning_rate_applies_to_all_optimizers():
    space = make_space({"learning_rate": 0.004, "optimizer": ["adamw", "sgd", "rmsprop"]})
    rates = {(config.optimizer, config.learning_rate) for config, _ in (ask(space, seed) for seed in range(20))}
    assert rates == {("adamw", 0.004), ("sgd", 0.004), ("rmsprop", 0.004)}


@pytest.mark.parametrize("optimizers", [["adamw", "sgd"], ["sgd", "rmsprop"], "sgd", "rmsprop"])
def test_the_searched_learning_rate_is_that_of_adamw_and_25_times_as_large_for_sgd(optimizers):
    space = make_space({"optimizer": optimizers})
    seen = set()
    for seed in range(12):
        config, params = ask(space, seed)
        seen.add(config.optimizer)
        assert config.learning_rate == pytest.approx(params["learning_rate"] * {"sgd": 25}.get(config.optimizer, 1))
    assert seen == set([optimizers] if isinstance(optimizers, str) else optimizers)
    default = space.config(space.default_params())
    assert default.optimizer in seen
    assert default.learning_rate == pytest.approx(LEARNING_RATE * {"sgd": 25}.get(default.optimizer, 1))


def test_changed_ranges_move_the_default_parameters_inside():
    low = 2 * LEARNING_RATE
    space = make_space({"learning_rate": {"low": low, "high": 0.1}, "dropout": [0.0, 0.7], "augmentation_strength": {"low": 0.5}})
    words = space.describe()
    assert words["learning_rate"] == f"{low:g} to 0.1 (log)"
    assert words["dropout"] == "0.0, 0.7"
    params = space.default_params()
    assert params["learning_rate"] == low
    assert params["dropout"] == 0.0
    assert params["augmentation_strength"] == 0.5


def test_choices_for_a_field_that_is_not_searched_by_default():
    space = make_space({"schedule": ["cosine", "one_cycle"], "clip_norm": {"low": 0.5, "high": 2}, "warmup": 0.2})
    parameter = next(p for p in space.parameters if p.name == "schedule")
    assert parameter.distribution == CategoricalDistribution(("cosine", "one_cycle"))
    config, params = ask(space)
    assert params["schedule"] == config.schedule
    assert 0.5 <= config.clip_norm <= 2
    assert config.warmup == 0.2


@pytest.mark.parametrize(
    ("changes", "fragments"),
    [
        ({"learning_rat": 1e-3}, ["unknown key 'space.learning_rat'", "did you mean 'learning_rate'?"]),
        ({"learning_rate": {"lo": 1}}, ["unknown key 'space.learning_rate.lo'", "did you mean 'low'?"]),
        ({"learning_rate": {"low": "x"}}, ["space.learning_rate.low must be a number but got 'x'"]),
        ({"learning_rate": {"log": 1}}, ["space.learning_rate.log must be true or false but got 1"]),
        ({"learning_rate": {"low": 1, "high": 0.1}}, ["space.learning_rate is not a range"]),
        ({"learning_rate": {"low": 0, "high": 0.1}}, ["space.learning_rate is not a range"]),
        ({"weight_decay": {"high": 0.1, "step": 1e-300}}, ["space.weight_decay has more steps than a number can count", "above 1e-300"]),
        ({"learning_rate": {"high": 1e6}}, ["space.learning_rate", "less than or equal to 10"]),
        ({"learning_rate": {"low": float("nan")}}, ["learning_rate"]),
        ({"epochs": {"low": 1.5}}, ["space.epochs.low must be a whole number but got 1.5"]),
        ({"epochs": {"low": True}}, ["space.epochs.low must be a whole number but got True"]),
        ({"epochs": 0}, ["in space", "epochs", "greater than or equal to 1"]),
        ({"epochs": None}, ["space.epochs must be a value", "got nothing"]),
        ({"epochs": []}, ["space.epochs must list at least one plain value"]),
        ({"epochs": [{"a": 1}]}, ["space.epochs must list at least one plain value"]),
        ({"optimizer": {"low": 1}}, ["space.optimizer takes a value or a list of choices"]),
        ({"optimizer": "adam"}, ["unknown 'adam'", "did you mean 'adamw'?"]),
        ({"optimizer": ["adamw", "sdg"]}, ["space.optimizer", "unknown 'sdg'", "did you mean 'sgd'?"]),
        ({"initializer": "xavier_unifrom"}, ["unknown 'xavier_unifrom'", "did you mean 'xavier_uniform'?"]),
        ({"schedule": ["cosine", "liner"]}, ["space.schedule", "unknown 'liner'"]),
        ({"dropout": 1.4}, ["dropout", "less than 1", "1.4"]),
        ({"optimizer": ["adamw", "sgd"], "learning_rate": {"high": 1}}, ["in space.learning_rate", "less than or equal to 10 but got 25"]),
        ({"learning_rate_sgd": 0.1}, ["unknown key 'space.learning_rate_sgd'", "did you mean 'learning_rate'?"]),
    ],
)
def test_a_wrong_change_is_named(changes, fragments):
    with pytest.raises(ConfigError) as caught:
        make_space(changes)
    for fragment in fragments:
        assert fragment in str(caught.value)


def test_a_listed_head_replaces_the_parameters_of_the_other_head():
    space = make_space({"head": ["dense 64 relu", "dropout 0.3", "dense"]})
    assert space.recipe.head == ("dense 64 relu", "dropout 0.3", "dense")
    assert {"head_layers", "head_units", "activation"}.isdisjoint(space.describe())
    configs = [ask(space, seed)[0] for seed in range(8)]
    assert {config.head for config in configs} == {space.recipe.head}
    with pytest.raises(ConfigError, match="head: unknown layer 'dens 64'"):
        make_space({"head": ["dens 64", "dense"]})
    with pytest.raises(ConfigError, match="head lists all layers of the head, so head_layers: 2 would have no effect"):
        make_space({"head": ["dense"], "head_layers": 2})


def test_new_stages_are_at_most_those_that_train():
    space = make_space({"reinit_stages": 2, "unfrozen_stages": {"low": 0, "high": 3}})
    pairs = {(config.unfrozen_stages, config.reinit_stages) for config in (ask(space, seed)[0] for seed in range(20))}
    assert all(new == min(2, trained) for trained, new in pairs)
    assert len(pairs) > 2
