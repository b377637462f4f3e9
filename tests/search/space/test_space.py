import optuna
from hypothesis import given
from hypothesis import strategies as st
from optuna.samplers import RandomSampler

from tests.search.conftest import STAGES, make_space
from tests.search.space.asking import ask
from trainables.config import TrialConfig

spaces = st.builds(
    make_space,
    task=st.sampled_from(["multiclass", "binary", "multilabel", "regression"]),
    images=st.integers(8, 100_000),
    backbones=st.sampled_from([("mobilenet_v3_small",), ("resnet18", "mobilenet_v3_small")]),
)


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
def test_recorded_parameters_give_the_same_configuration(space, seed):
    config, params = ask(space, seed)
    assert space.config(params) == config


@given(spaces)
def test_the_default_space_contains_the_recipe(space):
    assert space.config(space.default_params()) == space.recipe
    study = optuna.create_study(sampler=RandomSampler(seed=1))
    study.enqueue_trial(space.default_params())
    assert space.suggest(study.ask()) == space.recipe
