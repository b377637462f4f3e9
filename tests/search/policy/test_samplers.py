import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.policy.samplers import SAMPLERS, build_sampler, startup_trials
from tests.search.conftest import make_space


@given(st.integers(1, 10_000))
def test_startup_trials_are_a_third_between_four_and_ten(trials):
    assert 4 <= startup_trials(trials) <= 10
    assert startup_trials(trials) == trials // 3 or trials < 12 or trials >= 33


def proposals(study, space, count):
    proposed = []
    for _ in range(count):
        trial = study.ask()
        config = space.suggest(trial)
        proposed.append(config)
        study.tell(trial, config.learning_rate * (1 + config.augmentation_strength))
    return proposed


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_reloaded_study_proposes_the_same_trials(name, tmp_path):
    space = make_space()
    whole = optuna.create_study(sampler=build_sampler(name, seed=5, trials=12))
    expected = proposals(whole, space, 12)

    storage = f"sqlite:///{tmp_path}/studies.db"
    first = optuna.create_study(storage=storage, study_name="s", sampler=build_sampler(name, seed=5, trials=12))
    head = proposals(first, space, 7)
    again = optuna.load_study(storage=storage, study_name="s", sampler=build_sampler(name, seed=5, trials=12))
    assert head + proposals(again, space, 5) == expected
    assert len({config.model_dump_json() for config in expected}) == 12


def test_another_seed_proposes_other_trials():
    space = make_space()
    first, second = (proposals(optuna.create_study(sampler=build_sampler("tpe", seed=seed, trials=6)), space, 6) for seed in (0, 1))
    assert not set(map(str, first)) & set(map(str, second))


def test_tpe_learns_after_the_startup():
    space = make_space()
    study = optuna.create_study(sampler=build_sampler("tpe", seed=0, trials=40))
    rates = [config.learning_rate for config in proposals(study, space, 40)]
    assert sorted(rates[-15:])[7] < sorted(rates[:10])[5]
