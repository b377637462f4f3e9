import dataclasses

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dashboard.data import space_analysis, trial_table
from search.record.memory_study import in_memory_study
from tests.dashboard.records import older, study, trial
from trainables.errors import StorageError


def grown(count=20, **more):
    """Return a study in which the value depends on the rate only, and grows with it."""
    trials = [trial(n, value=n / count, params={"rate": 0.01 * (n + 1), "kind": "xy"[n * 7 % 3 % 2]}) for n in range(count)]
    return study(*trials, **more)


def test_fewer_than_five_finished_trials_are_too_few_to_analyze(record):
    with pytest.raises(StorageError, match="2 trials have finished; 5 are needed"):
        space_analysis.analyzed_trials(record)


@settings(deadline=None, max_examples=50)
@given(st.integers(5, 60), st.integers(2, 30).map(lambda half: 2 * half), st.randoms())
def test_of_many_trials_the_best_and_the_latest_are_analyzed(count, most, random):
    record = study(*(trial(number, value=random.random()) for number in range(count)))
    chosen = space_analysis.analyzed_trials(record, most)
    assert len(chosen) == count if count <= most else most // 2 <= len(chosen) <= most
    assert {record.best.number, count - 1} <= {one.number for one in chosen}
    assert [one.number for one in chosen] == sorted(one.number for one in chosen)


@pytest.mark.parametrize("evaluator", space_analysis.EVALUATORS)
def test_the_parameter_that_determines_the_value_is_the_most_important(evaluator):
    frame = space_analysis.importance(grown(), evaluator)
    assert frame["parameter"].iloc[0] == "rate"
    assert frame["importance"].sum() == pytest.approx(1)
    assert frame["importance"].is_monotonic_decreasing
    words = space_analysis.describe_importance(frame, evaluator, 20)
    assert words.startswith("rate matters most (")
    assert f"by {evaluator} over 20 finished trials" in words


@pytest.mark.parametrize("evaluator", space_analysis.EVALUATORS)
def test_importance_sums_to_one_over_a_conditional_space(learnt, evaluator):
    frame = space_analysis.importance(learnt, evaluator)
    assert frame["importance"].sum() == pytest.approx(1)
    assert set(frame["parameter"]) <= set(learnt.parameters)


@pytest.mark.parametrize("evaluator", space_analysis.EVALUATORS)
def test_equal_values_have_no_importance(evaluator):
    same = study(*(trial(number, params={"rate": 0.01 * (number + 1), "kind": "x"}) for number in range(10)))
    with pytest.raises(StorageError):
        space_analysis.importance(same, evaluator)


@pytest.mark.parametrize("evaluator", space_analysis.EVALUATORS)
def test_a_study_without_searched_parameters_has_no_importance(evaluator):
    fixed = study(*(trial(number, value=number / 10, params={}) for number in range(10)))
    with pytest.raises(StorageError):
        space_analysis.describe_importance(space_analysis.importance(fixed, evaluator), evaluator, 10)


def test_the_importance_of_an_older_record_raises_a_storage_error(learnt):
    with pytest.raises(StorageError, match="older version"):
        space_analysis.importance(older(learnt), "PED-ANOVA")


def test_the_sentence_on_importance_counts_the_important_parameters():
    frame = pd.DataFrame({"parameter": ["a", "b", "c"], "importance": [0.6, 0.3, 0.1]})
    assert space_analysis.describe_importance(frame, "fANOVA", 9) == (
        "a matters most (60%), by fANOVA over 9 finished trials. The first 2 of 3 make up 90%."
    )


def test_values_by_field_are_of_trials_that_ended_with_a_value(record):
    frame = space_analysis.values_by_field(record)
    assert list(frame["trial"]) == [0, 1, 2]
    assert list(frame.columns) == ["trial", "state", "value", *trial_table.searched_fields(record)]
    assert space_analysis.values_by_field(study()).empty


def test_logarithmic_fields_are_known_from_the_ranges(learnt):
    logarithmic = {name for name in trial_table.searched_fields(learnt) if space_analysis.is_logarithmic(learnt, name)}
    assert logarithmic == {"learning_rate", "head_units"}


def test_an_older_record_has_no_logarithmic_field(learnt):
    assert not space_analysis.is_logarithmic(older(learnt), "learning_rate")


@pytest.mark.parametrize(("mode", "low", "high"), [("max", "0.16", "0.2"), ("min", "0.01", "0.05")])
def test_the_range_of_the_best_quarter_is_named_beside_the_whole_range(mode, low, high):
    words = space_analysis.describe_best_range(space_analysis.values_by_field(grown()), "rate", mode)
    assert words == f"The best quarter of 20 finished trials has rate from {low} to {high}; all of them from 0.01 to 0.2."


def test_the_best_choice_is_named_with_its_median():
    trials = [trial(n, value=n / 10, params={"rate": 0.1, "kind": "y" if n >= 4 else "x"}) for n in range(8)]
    words = space_analysis.describe_best_range(space_analysis.values_by_field(study(*trials)), "kind", "max")
    assert words == "kind y has the best median value, 0.55; 2 of the best 2 trials have it."


def test_a_field_that_few_trials_use_is_not_compared():
    frame = space_analysis.values_by_field(study(*(trial(n, params={"rate": 0.1}) for n in range(9))))
    assert space_analysis.describe_best_range(frame, "kind", "max").startswith("kind: too few finished trials use it")


def test_values_by_strength_are_of_finished_trials(learnt):
    frame = space_analysis.values_by_strength(learnt)
    assert list(frame["trial"]) == list(range(12))
    assert frame["augmentation_strength"].between(0, 1).all()
    assert space_analysis.values_by_strength(study()).empty


def test_a_configuration_without_a_strength_has_no_row():
    assert space_analysis.values_by_strength(study(*(trial(number) for number in range(6)))).empty


def test_the_in_memory_study_has_the_ended_trials(learnt):
    found = in_memory_study(learnt, learnt.trials)
    assert [one.value for one in found.trials] == [one.value for one in learnt.trials]
    assert [one.params for one in found.trials] == [one.params for one in learnt.trials]


def test_failed_and_unfinished_trials_are_not_analyzed(record):
    assert len(in_memory_study(record, record.trials).trials) == 3
    assert len(in_memory_study(dataclasses.replace(record, mode="min"), record.trials[3:]).trials) == 0
