import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution
from optuna.samplers import RandomSampler

from tests.search.conftest import STAGES, make_space
from trainables.config import TrialConfig
from trainables.errors import ConfigError

spaces = st.builds(
    make_space,
    task=st.sampled_from(["multiclass", "binary", "multilabel", "regression"]),
    images=st.integers(8, 100_000),
    backbones=st.sampled_from([("mobilenet_v3_small",), ("resnet18", "mobilenet_v3_small")]),
)


def ask(space, seed=0):
    trial = optuna.create_study(sampler=RandomSampler(seed=seed)).ask()
    return space.suggest(trial), trial.params


@given(spaces, st.integers(0, 2**31))
def test_suggestions_are_valid_inside_their_ranges_and_conditional(space, seed):
    config, params = ask(space, seed)
    assert TrialConfig.model_validate(config.model_dump()) == config
    for parameter in space.parameters:
        if parameter.name in params:
            value = params[parameter.name]
            assert parameter.distribution._contains(parameter.distribution.to_internal_repr(value))
            if parameter.sets != "unfrozen_stages":
                assert getattr(config, parameter.sets) == value
    sgd = config.optimizer == "sgd"
    assert ("learning_rate_sgd" in params, "momentum" in params, "weight_decay_sgd" in params) == (sgd, sgd, sgd)
    assert ("learning_rate" in params, "weight_decay" in params) == (not sgd, not sgd)
    assert ("stage_lr_decay" in params) == (params["unfrozen_stages"] >= 1)
    assert ("head_units" in params) == (config.head_layers >= 1)
    assert config.unfrozen_stages <= STAGES[config.backbone]


@given(spaces, st.integers(0, 2**31))
def test_recorded_parameters_give_the_configuration_back(space, seed):
    config, params = ask(space, seed)
    assert space.config(params) == config


@given(spaces)
def test_untouched_space_holds_the_recipe(space):
    assert space.config(space.default_params()) == space.recipe
    study = optuna.create_study(sampler=RandomSampler(seed=1))
    study.enqueue_trial(space.default_params())
    assert space.suggest(study.ask()) == space.recipe


def test_label_smoothing_is_for_multiclass_and_backbone_for_a_choice():
    assert "label_smoothing" in ask(make_space())[1]
    assert "label_smoothing" not in ask(make_space(task="binary"))[1]
    assert "backbone" not in make_space().in_words()
    assert make_space(backbones=("resnet18", "mobilenet_v3_small")).in_words()["backbone"] == "resnet18, mobilenet_v3_small"


@given(st.integers(8, 2000))
def test_batches_stay_below_a_quarter_of_the_images(images):
    space = make_space(images=images)
    assert max(value for p in space.parameters if p.sets == "batch_size" for value in p.extremes()) <= max(2, images // 4)


def test_fixing_takes_a_parameter_out():
    space = make_space({"epochs": 3, "optimizer": "sgd", "learning_rate_sgd": 0.05, "head_layers": 3})
    assert space.recipe.epochs == 3
    assert space.recipe.head_layers == 3
    config, params = ask(space)
    assert (config.optimizer, config.learning_rate) == ("sgd", 0.05)
    assert "epochs" not in params


def test_fixing_learning_rate_holds_for_both_optimizers():
    rates = {ask(make_space({"learning_rate": 0.004}), seed)[0].learning_rate for seed in range(12)}
    assert rates == {0.004}


def test_fixing_the_rate_of_sgd_leaves_that_of_adamw():
    space = make_space({"learning_rate_sgd": 0.2, "learning_rate": 0.004})
    rates = {(config.optimizer, config.learning_rate) for config, _ in (ask(space, seed) for seed in range(20))}
    assert rates == {("adamw", 0.004), ("sgd", 0.2)}
    free = {config.learning_rate for config, _ in (ask(make_space({"learning_rate_sgd": 0.2}), seed) for seed in range(20))}
    assert len(free) > 2


def test_narrowing_and_widening_and_moving_the_recipe_inside():
    space = make_space({"learning_rate": {"low": 0.002, "high": 0.1}, "dropout": [0.0, 0.7], "augmentation_strength": {"high": 0.125}})
    words = space.in_words()
    assert words["learning_rate"] == "0.002 to 0.1 (log)"
    assert words["dropout"] == "0.0, 0.7"
    params = space.default_params()
    assert params["learning_rate"] == 0.002
    assert params["dropout"] == 0.0
    assert params["augmentation_strength"] == 0.125


@given(st.floats(0, 1), st.integers(1, 8))
def test_nearest_is_a_value_of_the_range(value, eighths):
    space = make_space({"augmentation_strength": {"high": eighths / 8}})
    parameter = next(p for p in space.parameters if p.name == "augmentation_strength")
    nearest = parameter.nearest(value)
    assert parameter.distribution._contains(nearest)
    assert abs(nearest - min(value, eighths / 8)) <= 0.0625 + 1e-9


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
        ({"optimizer": "sgd", "learning_rate": {"low": 1e-3}}, ["space.learning_rate does not apply", "set space.learning_rate_sgd"]),
        ({"optimizer": "sgd", "weight_decay": {"low": 1e-3}}, ["space.weight_decay does not apply", "set space.weight_decay_sgd"]),
        ({"optimizer": "adamw", "learning_rate_sgd": 0.1}, ["space.learning_rate_sgd does not apply", "set space.learning_rate"]),
    ],
)
def test_what_is_wrong_is_said(changes, fragments):
    with pytest.raises(ConfigError) as caught:
        make_space(changes)
    for fragment in fragments:
        assert fragment in str(caught.value)
