import dataclasses

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dashboard.data import trial_table
from search.record.reader import read_study
from tests.dashboard.records import failed, older, study, trial

STATES = ("finished", "stopped", "failed", "running")
TRIALS = st.lists(
    st.tuples(st.sampled_from(STATES), st.floats(0, 1) | st.none(), st.floats(1e-4, 1.0), st.sampled_from(("x", "y", None))), max_size=25
)


def table(rows):
    trials = []
    for number, (state, value, rate, kind) in enumerate(rows):
        params = {"rate": rate} | ({} if kind is None else {"kind": kind})
        trials.append(trial(number, state, value, params=params))
    return trial_table.trials_table(study(*trials))


def test_the_table_has_state_value_and_reason_of_each_trial(record):
    frame = trial_table.trials_table(record)
    assert list(frame["state"]) == ["finished", "finished", "stopped", "failed", "running"]
    assert list(frame["value"]) == [0.7, 0.8, 0.9, 0.3, 0.35]
    assert list(frame["epochs done"]) == [4, 4, 2, 1, 2]
    assert list(frame["epochs"]) == [4] * 5
    assert frame[trial_table.REASON][0] == "the default recipe; all its epochs are done"
    assert frame[trial_table.REASON][2].startswith("rung 50% of its epochs: 0.9")
    assert frame[trial_table.REASON][3] == "other: ValueError: <b>bad</b> luck"
    assert frame[trial_table.REASON][4] == ""
    assert frame["learning_rate"].notna().all()
    assert list(frame["minutes"].isna()) == [False, False, False, False, True]
    assert list(frame["node"][:4]) == ["node-1"] * 4


def test_fields_that_do_not_apply_are_empty(record):
    frame = trial_table.trials_table(record)
    for one in record.trials[1:]:
        row = frame[frame["trial"] == one.number].iloc[0]
        assert pd.isna(row["activation"]) == ("activation" not in one.params)
        assert pd.isna(row["head_units"]) == ("head_units" not in one.params)
        assert row["learning_rate"] == one.config["learning_rate"]


def test_searched_fields_are_unique_and_in_the_order_of_the_space(record):
    fields = trial_table.searched_fields(record)
    assert fields[:4] == ["optimizer", "learning_rate", "unfrozen_stages", "batch_size"]
    assert len(fields) == len(set(fields))
    assert "epochs" not in fields


def test_the_searched_fields_of_an_older_record_are_those_of_its_trials(record):
    fields = trial_table.searched_fields(older(record))
    assert "optimizer" in fields
    assert set(fields) <= set(record.trials[1].config)
    assert len(trial_table.trials_table(older(record))) == 5


def test_a_table_of_no_trial_has_its_columns():
    frame = trial_table.trials_table(study())
    assert frame.empty
    assert list(frame.columns) == [*trial_table.FIXED_COLUMNS, "rate", "kind", trial_table.REASON, "node"]


def test_a_queued_trial_has_a_row(played):
    played.study.enqueue_trial({"optimizer": "sgd"})
    frame = trial_table.trials_table(read_study(played.name, played.url))
    assert list(frame["state"])[-1] == "queued"
    assert pd.isna(frame["value"].iloc[-1])


@settings(deadline=None, max_examples=50)
@given(TRIALS)
def test_without_conditions_every_trial_is_kept(rows):
    frame = table(rows)
    pd.testing.assert_frame_equal(trial_table.filtered(frame), frame)


@settings(deadline=None, max_examples=50)
@given(
    TRIALS,
    st.lists(st.sampled_from(STATES), max_size=2),
    st.tuples(st.floats(0, 1), st.floats(0, 1)).map(sorted),
    st.lists(st.sampled_from(("x", "y")), min_size=1, max_size=2),
    st.sampled_from(("", "FIN", "epochs", "x", "[", "nothing like it")),
)
def test_filtered_trials_satisfy_every_condition(rows, states, limits, kinds, text):
    frame = table(rows)
    kept = trial_table.filtered(frame, states=states, text=text, ranges={"rate": tuple(limits)}, choices={"kind": kinds})

    def fits(row):
        return (
            (not states or row["state"] in states)
            and limits[0] <= row["rate"] <= limits[1]
            and row["kind"] in kinds
            and any(text.lower() in str(cell).lower() for cell in row)
        )

    assert list(kept["trial"]) == [row["trial"] for _, row in frame.iterrows() if fits(row)]


def test_a_text_filter_is_not_a_regular_expression():
    frame = trial_table.trials_table(study(failed(0, message="a.c"), failed(1, message="abc")))
    frame[trial_table.REASON] = ["a.c", "abc"]
    assert list(trial_table.filtered(frame, text="A.C")["trial"]) == [0]


@settings(deadline=None, max_examples=50)
@given(TRIALS, st.sampled_from(("trial", "state", "value", "rate", "kind", "minutes", trial_table.REASON)), st.booleans())
def test_sorting_keeps_all_rows_and_puts_empty_values_last(rows, by, descending):
    frame = table(rows)
    rows = trial_table.sorted_by(frame, by, descending=descending)
    pd.testing.assert_frame_equal(rows.sort_index(), frame)
    empty = rows[by].isna().tolist()
    assert empty == sorted(empty)
    known = rows[by].dropna().tolist()
    assert known == sorted(known, reverse=descending)


def test_columns_of_two_different_numbers_are_choices():
    frame = pd.DataFrame({"few": [0.0, 0.9, 0.9], "many": [1.0, 2.0, 3.0], "words": ["a", "b", "c"]})
    assert [trial_table.is_numeric(frame, name) for name in frame] == [False, True, False]


def test_configurations_can_be_reduced_to_differing_fields(record):
    trials = list(record.trials[:2])
    every, differing = trial_table.configurations(record, trials), trial_table.configurations(record, trials, differing=True)
    assert list(every.columns) == ["trial 0", "trial 1"]
    assert "backbone" in every.index
    assert "seed" not in every.index
    assert set(differing.index) < set(every.index)
    assert (differing["trial 0"] != differing["trial 1"]).all()


@settings(deadline=None, max_examples=50)
@given(st.dictionaries(st.sampled_from("abcde"), st.dictionaries(st.sampled_from(("p", "q", "seed")), st.integers(0, 2))))
def test_side_by_side_has_a_column_per_configuration_and_a_row_per_field(configs):
    frame = trial_table.side_by_side(configs, differing=False)
    assert list(frame.columns) == list(configs)
    assert set(frame.index) == {name for config in configs.values() for name in config} - {"seed"}
    differing = trial_table.side_by_side(configs, differing=True)
    assert all(len(set(row)) > 1 for row in differing.to_numpy().tolist())


def test_a_missing_field_is_a_dash():
    frame = trial_table.side_by_side({"a": {"ops": ["crop", "flip"], "rate": 0.123456}, "b": {"rate": None}}, differing=False)
    assert frame.loc["ops"].tolist() == ["crop, flip", "–"]
    assert frame.loc["rate"].tolist() == ["0.1235", "–"]


def test_failures_are_grouped_by_kind_the_most_frequent_first():
    frame = trial_table.failures(study(failed(0, "data", "torn"), failed(1, "other", "first"), failed(2, "other", "last"), trial(3)))
    assert frame[["kind", "trials", "example", "message"]].to_dict("records") == [
        {"kind": "other", "trials": 2, "example": 2, "message": "last"},
        {"kind": "data", "trials": 1, "example": 0, "message": "torn"},
    ]


def test_without_failures_the_table_is_empty(record):
    nothing = trial_table.failures(dataclasses.replace(record, trials=record.trials[:2]))
    assert nothing.empty
    assert list(nothing.columns) == ["kind", "trials", "example", "message", "where"]


@settings(deadline=None, max_examples=50)
@given(st.integers(2, 8), st.lists(st.floats(1e-4, 0.4), min_size=8, max_size=40))
def test_a_planted_failure_region_is_found(inside, outside):
    planted = [failed(number, params={"rate": 0.5 + 0.1 * number / inside, "kind": "x"}) for number in range(inside)]
    others = [trial(inside + number, params={"rate": rate, "kind": "x"}) for number, rate in enumerate(outside)]
    words = trial_table.failures(study(*planted, *others))["where"][0]
    assert words.startswith("rate from 0.5 to 0.5")
    assert words.endswith(f": {inside} of {inside} trials failed")


def test_a_failure_region_can_be_a_choice():
    trials = [failed(n, params={"rate": n / 10, "kind": "y"}) for n in (1, 9)] + [
        trial(n, params={"rate": n / 10, "kind": "x"}) for n in (2, 3, 4, 5, 6, 7, 8)
    ]
    assert trial_table.failures(study(*trials))["where"][0] == "kind y: 2 of 2 trials failed"


@pytest.mark.parametrize("numbers", [{5}, set(range(10)), {0, 9}, {0, 4, 9}])
def test_without_concentration_there_is_no_failure_region(numbers):
    frame = trial_table.trials_table(study(*(trial(number, params={"rate": number / 10, "kind": "x"}) for number in range(10))))
    assert trial_table.failure_region(frame, numbers, ["rate", "kind"]) == ""


@settings(deadline=None, max_examples=50)
@given(st.sets(st.integers(0, 29), min_size=1), st.lists(st.floats(1e-4, 1.0), min_size=30, max_size=30))
def test_a_failure_region_holds_all_failures_and_they_are_half_of_it(numbers, rates):
    frame = trial_table.trials_table(study(*(trial(number, params={"rate": rate, "kind": "x"}) for number, rate in enumerate(rates))))
    words = trial_table.failure_region(frame, numbers, ["rate", "kind"])
    if words:
        some, there = words.rpartition(": ")[2].removesuffix(" trials failed").split(" of ")
        assert int(some) == len(numbers)
        assert int(there) <= 2 * len(numbers)


def test_only_ended_trials_have_minutes():
    assert trial_table.minutes_taken(trial(0)) == 1.0
    assert trial_table.minutes_taken(trial(0, "running")) is None
