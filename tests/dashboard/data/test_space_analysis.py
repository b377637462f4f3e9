import dataclasses
from contextlib import suppress

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dashboard.data import space_analysis, trial_table
from search.record.memory_study import in_memory_study
from tests.dashboard.records import older, study, trial
from trainables.errors import InjertoError, StorageError


def grown(count=20, **more):
    """Trials whose value grows with their rate alone."""
    trials = [trial(n, value=n / count, params={"rate": 0.01 * (n + 1), "kind": "xy"[n * 7 % 3 % 2]}) for n in range(count)]
    return study(*trials, **more)


def test_fewer_than_five_finished_trials_say_nothing(record):
    with pytest.raises(StorageError, match="2 trials have finished; 5 are needed"):
        space_analysis.analyzed_trials(record)


@settings(deadline=None, max_examples=50)
@given(st.integers(5, 60), st.integers(2, 30).map(lambda half: 2 * half), st.randoms())
def test_of_many_trials_the_best_and_the_latest_are_looked_at(count, most, random):
    record = study(*(trial(number, value=random.random()) for number in range(count)))
    chosen = space_analysis.analyzed_trials(record, most)
    assert len(chosen) == count if count <= most else most // 2 <= len(chosen) <= most
    assert {record.best.number, count - 1} <= {one.number for one in chosen}
    assert [one.number for one in chosen] == sorted(one.number for one in chosen)


@pytest.mark.parametrize("evaluator", space_analysis.EVALUATORS)
def test_what_the_value_grows_with_is_the_most_important(evaluator):
    frame = space_analysis.importance(grown(), evaluator)
    assert frame["parameter"].iloc[0] == "rate"
    assert frame["importance"].sum() == pytest.approx(1)
    assert frame["importance"].is_monotonic_decreasing
    words = space_analysis.describe_importance(frame, evaluator, 20)
    assert words.startswith("rate matters most (")
    assert f"by {evaluator} over 20 finished trials" in words


@pytest.mark.parametrize("evaluator", space_analysis.EVALUATORS)
def test_importance_has_shares_of_one_over_a_conditional_space(learnt, evaluator):
    frame = space_analysis.importance(learnt, evaluator)
    assert frame["importance"].sum() == pytest.approx(1)
    assert set(frame["parameter"]) <= set(learnt.parameters)


@pytest.mark.parametrize("evaluator", space_analysis.EVALUATORS)
def test_where_all_values_are_the_same_nothing_is_important(evaluator):
    same = study(*(trial(number, params={"rate": 0.01 * (number + 1), "kind": "x"}) for number in range(10)))
    with pytest.raises(StorageError):
        space_analysis.importance(same, evaluator)


@pytest.mark.parametrize("evaluator", space_analysis.EVALUATORS)
def test_where_nothing_is_searched_nothing_is_important(evaluator):
    fixed = study(*(trial(number, value=number / 10, params={}) for number in range(10)))
    with pytest.raises(StorageError):
        space_analysis.describe_importance(space_analysis.importance(fixed, evaluator), evaluator, 10)


def test_an_older_record_says_why_it_has_no_importance(learnt):
    with pytest.raises(StorageError, match="older version"):
        space_analysis.importance(older(learnt), "PED-ANOVA")


def test_the_words_count_how_many_make_up_most():
    frame = pd.DataFrame({"parameter": ["a", "b", "c"], "importance": [0.6, 0.3, 0.1]})
    assert space_analysis.describe_importance(frame, "fANOVA", 9) == (
        "a matters most (60%), by fANOVA over 9 finished trials. The first 2 of 3 make up 90%."
    )


def test_values_are_of_trials_that_ended_with_one(record):
    frame = space_analysis.values_by_field(record)
    assert list(frame["trial"]) == [0, 1, 2]
    assert list(frame.columns) == ["trial", "state", "value", *trial_table.searched_fields(record)]
    assert space_analysis.values_by_field(study()).empty


def test_scales_and_choices_are_known_from_the_ranges(learnt):
    logarithmic = {name for name in trial_table.searched_fields(learnt) if space_analysis.is_logarithmic(learnt, name)}
    assert logarithmic == {"learning_rate", "weight_decay"}


def test_an_older_record_knows_no_scale(learnt):
    assert not space_analysis.is_logarithmic(older(learnt), "learning_rate")


@pytest.mark.parametrize(("mode", "low", "high"), [("max", "0.16", "0.2"), ("min", "0.01", "0.05")])
def test_the_best_quarter_is_told_beside_all(mode, low, high):
    words = space_analysis.describe_best_range(space_analysis.values_by_field(grown()), "rate", mode)
    assert words == f"The best quarter of 20 finished trials has rate from {low} to {high}; all of them from 0.01 to 0.2."


def test_the_best_choice_is_told_by_its_median():
    trials = [trial(n, value=n / 10, params={"rate": 0.1, "kind": "y" if n >= 4 else "x"}) for n in range(8)]
    words = space_analysis.describe_best_range(space_analysis.values_by_field(study(*trials)), "kind", "max")
    assert words == "kind y has the best median value, 0.55; 2 of the best 2 trials have it."


def test_too_few_trials_that_use_a_field_are_said():
    frame = space_analysis.values_by_field(study(*(trial(n, params={"rate": 0.1}) for n in range(9))))
    assert space_analysis.describe_best_range(frame, "kind", "max").startswith("kind: too few finished trials use it")


def test_values_by_strength_are_of_finished_trials(learnt):
    frame = space_analysis.values_by_strength(learnt)
    assert list(frame["trial"]) == list(range(12))
    assert frame["augmentation_strength"].between(0, 1).all()
    assert space_analysis.values_by_strength(study()).empty


def test_a_configuration_without_a_strength_says_nothing_of_it():
    with suppress(InjertoError):
        assert space_analysis.values_by_strength(study(*(trial(number) for number in range(6)))).empty


def test_optuna_gets_ended_trials_with_their_values(learnt):
    found = in_memory_study(learnt, learnt.trials)
    assert [one.value for one in found.trials] == [one.value for one in learnt.trials]
    assert [one.params for one in found.trials] == [one.params for one in learnt.trials]


def test_failed_and_open_trials_teach_nothing(record):
    assert len(in_memory_study(record, record.trials).trials) == 3
    assert len(in_memory_study(dataclasses.replace(record, mode="min"), record.trials[3:]).trials) == 0
