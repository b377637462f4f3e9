import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.samplers import RandomSampler

from search.space.default_space import LEARNING_RATE_FACTORS
from tests.search.conftest import IMAGE_SIZE, STAGES, make_space
from tests.search.space.asking import ask
from trainables.config import TrialConfig

OPTIMIZERS = ["adamw", "sgd", "rmsprop"]
spaces = st.builds(
    make_space,
    changes=st.one_of(
        st.just({}),
        st.sampled_from(OPTIMIZERS).map(lambda name: {"optimizer": name}),
        st.permutations(OPTIMIZERS).map(lambda names: {"optimizer": list(names)}),
    ),
    task=st.sampled_from(["multiclass", "binary", "multilabel", "regression"]),
    images=st.integers(8, 100_000),
    backbones=st.sampled_from([("mobilenet_v3_small",), ("resnet18", "mobilenet_v3_small")]),
    image_sizes=st.sampled_from([(IMAGE_SIZE,), (IMAGE_SIZE, 64), (IMAGE_SIZE, 64, 80)]),
)


@given(spaces, st.integers(0, 2**31))
def test_suggestions_are_valid_inside_their_ranges_and_conditional(space, seed):
    config, params = ask(space, seed)
    assert TrialConfig.model_validate(config.model_dump()) == config
    for parameter in space.parameters:
        if parameter.name in params:
            value = params[parameter.name]
            assert parameter.distribution._contains(parameter.distribution.to_internal_repr(value))
            if parameter.sets not in ("unfrozen_stages", "learning_rate"):
                assert getattr(config, parameter.sets) == value
    assert config.learning_rate == params["learning_rate"] * (25 if config.optimizer == "sgd" else 1)
    assert ("head_units" in params, "activation" in params) == (config.head_layers >= 1,) * 2
    assert config.unfrozen_stages == min(params["unfrozen_stages"], STAGES[config.backbone])


@given(spaces, st.integers(0, 2**31))
def test_recorded_parameters_give_the_same_configuration(space, seed):
    config, params = ask(space, seed)
    assert space.config(params) == config


@given(spaces)
def test_the_default_space_contains_the_recipe(space):
    default = space.config(space.default_params())
    study = optuna.create_study(sampler=RandomSampler(seed=1))
    study.enqueue_trial(space.default_params())
    assert space.suggest(study.ask()) == default
    rate = space.recipe.learning_rate
    assert default.learning_rate == pytest.approx(rate)
    assert default.model_copy(update={"learning_rate": rate}) == space.recipe


@given(spaces, st.sampled_from(OPTIMIZERS), st.floats(1e-4, 1e-2))
def test_the_field_and_the_parameter_of_the_learning_rate_are_inverse(space, optimizer, rate):
    parameter = next(parameter for parameter in space.parameters if parameter.name == "learning_rate")
    values = space.recipe.model_dump() | {"optimizer": optimizer}
    field = parameter.to_field(rate, values)
    assert field == rate * LEARNING_RATE_FACTORS.get(optimizer, 1)
    assert parameter.from_field(field, values) == pytest.approx(rate)


@given(st.floats(2e-4, 2e-2))
def test_a_parameter_that_a_user_asks_for_is_scaled_for_its_optimizer(rate):
    space = make_space({"optimizer": OPTIMIZERS})
    for optimizer in OPTIMIZERS:
        config = space.config(space.check_params({"learning_rate": rate, "optimizer": optimizer}))
        assert (config.optimizer, config.learning_rate) == (optimizer, rate * LEARNING_RATE_FACTORS.get(optimizer, 1))
