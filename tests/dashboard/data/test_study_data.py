import dataclasses
from datetime import datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dashboard.data import study_data
from search.record.artifacts import artifact_location
from search.record.reader import read_study
from tests.dashboard.played_search import CLASSES, PlayedSearch, pictures
from tests.dashboard.records import BEGAN, older, study, trial
from trainables.errors import InjertoError, StorageError

STATES = st.sampled_from(("finished", "stopped", "failed", "running", "queued"))


def test_learning_curves_are_by_each_trials_own_progress(record):
    frame = study_data.learning_curves(record, study_data.trials_to_draw(record))
    assert list(frame[frame["trial"] == 1]["progress"]) == [25.0, 50.0, 75.0, 100.0]
    assert list(frame[frame["trial"] == 1]["value"]) == [0.5, 0.6, 0.7, 0.8]
    assert frame.drop_duplicates("trial").set_index("trial")["role"].to_dict() == {
        0: "default recipe",
        1: "best",
        2: "stopped",
        3: "failed",
        4: "running",
    }


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(STATES, st.floats(0, 1)), min_size=1, max_size=400))
def test_drawn_trials_are_limited_and_include_the_best_the_first_and_the_running_ones(trials):
    record = study(*(trial(number, state, value) for number, (state, value) in enumerate(trials)))
    chosen = {one.number for one in study_data.trials_to_draw(record)}
    reported = {one.number for one in record.trials if one.intermediate}
    running = {one.number for one in record.trials if one.state == "running"}
    assert running <= chosen <= reported
    assert 0 in chosen or 0 not in reported
    assert record.best is None or record.best.number in chosen
    assert len(chosen - running) <= study_data.MOST_CURVES


def test_drawn_curves_are_limited():
    record = study(*(trial(number, value=0.9 if 1 <= number <= 100 else 0.1) for number in range(500)))
    chosen = [one.number for one in study_data.trials_to_draw(record)]
    assert {0, 1, 499} <= set(chosen)
    assert chosen == sorted(chosen)
    assert len(chosen) <= study_data.MOST_CURVES


def test_all_trials_of_a_small_study_are_drawn(record):
    assert [one.number for one in study_data.trials_to_draw(record)] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("algorithm", "places"),
    [({}, [11.1, 33.3]), ({"reduction_factor": 2}, [25, 50]), ({"scheduler": "none"}, [])],
)
def test_rungs_follow_the_reduction_factor_and_the_scheduler(algorithm, places):
    assert study_data.rung_percentages(study(config={"algorithm": algorithm})) == pytest.approx(places)


def test_best_so_far_counts_finished_trials_only(record):
    frame = study_data.best_so_far(record)
    assert list(frame["trial"]) == [0, 1, 2]
    assert list(frame["ended"]) == [1, 2, 3]
    assert list(frame["best"]) == [0.7, 0.8, 0.8]
    assert frame["minutes"].is_monotonic_increasing
    assert (frame["minutes"] >= 0).all()


def test_best_so_far_of_a_minimized_metric_decreases(record):
    assert list(study_data.best_so_far(dataclasses.replace(record, mode="min"))["best"]) == [0.7, 0.7, 0.7]


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(STATES, st.floats(-1, 1)), max_size=40), st.sampled_from(("max", "min")))
def test_best_so_far_ends_at_the_best_finished_value_and_never_gets_worse(trials, mode):
    record = study(*(trial(number, state, value) for number, (state, value) in enumerate(trials)), mode=mode)
    best = study_data.best_so_far(record)["best"].dropna()
    finished = [value for state, value in trials if state == "finished"]
    assert best.is_monotonic_increasing if mode == "max" else best.is_monotonic_decreasing
    assert list(best)[-1:] == ([max(finished) if mode == "max" else min(finished)] if finished else [])


def test_gain_is_positive_for_better_in_either_direction(record):
    assert study_data.gain(record) == pytest.approx(0.1)
    assert str(study_data.gain(dataclasses.replace(record, mode="min"))) == "0.0"
    assert study_data.gain(dataclasses.replace(record, trials=record.trials[1:2])) == 0.0
    assert study_data.gain(dataclasses.replace(record, trials=())) is None
    assert study_data.gain(study(trial(0, "running"), trial(1))) is None


def test_test_scores_begin_with_the_studys_metric(played):
    assert study_data.test_scores(read_study(played.name, played.url)).empty
    played.test_scores()
    frame = study_data.test_scores(read_study(played.name, played.url))
    assert list(frame.columns) == ["", "accuracy", "loss"]
    assert frame.to_dict("list") == {"": ["winner", "default recipe"], "accuracy": [0.8125, 0.75], "loss": [0.25, 0.5]}


def test_a_configuration_of_another_version_raises_an_injerto_error(record):
    assert len(study_data.configuration_sentences(record.trials[1])) == 4
    with pytest.raises(StorageError, match="trial 1 is of another version"):
        study_data.configuration_sentences(dataclasses.replace(record.trials[1], config={}))


def test_cards_are_listed_latest_first(record):
    frame = study_data.study_cards([record, dataclasses.replace(record, name="later", trials=())])
    assert list(frame["study"]) == ["later", "calm-fig"]
    assert list(frame["planned"]) == [8, 8]
    assert frame["best"].isna().tolist() == [True, False]
    assert frame["sparkline"][1] == [0.7, 0.8, 0.8]
    assert frame["dataset"][1] == "multiclass, 2 classes · 1,000 train, 200 validation, 200 test images at 32 px"


def test_a_card_of_a_long_study_has_a_short_sparkline():
    card = study_data.study_cards([study(*(trial(number, value=number / 1000) for number in range(1000)))])
    assert 100 <= len(card["sparkline"][0]) <= 101


def test_without_studies_there_are_no_cards():
    assert study_data.study_cards([]).empty


def test_empty_frames_keep_their_columns():
    nothing = study()
    assert list(study_data.best_so_far(nothing).columns) == ["trial", "state", "minutes", "value", "ended", "best"]
    assert list(study_data.learning_curves(nothing, study_data.trials_to_draw(nothing)).columns) == ["trial", "role", "progress", "value"]
    assert list(study_data.work_spans(nothing).columns) == ["trial", "state", "worker", "began", "ended", "why"]
    for frame in (
        study_data.best_so_far(nothing),
        study_data.work_spans(nothing),
        study_data.test_scores(nothing),
        study_data.nodes(nothing),
    ):
        assert frame.empty
    assert (study_data.first_start(nothing), study_data.interval(nothing), study_data.trials_to_draw(nothing)) == (None, None, [])


def study_with_interval(interval, metric="accuracy"):
    one = trial(0)
    one.__dict__["report"] = {"pictures": {"interval": interval}}
    return study(one, metric=metric)


def test_the_interval_is_that_of_the_best_trial(record):
    assert study_data.interval(record) == pytest.approx((0.75, 0.85))


@pytest.mark.parametrize(
    ("interval", "metric", "shown"),
    [
        ([-0.1, 1.2], "accuracy", (0.0, 1.0)),
        ([-0.1, 1.2], "loss", (-0.1, 1.2)),
        ([float("nan"), 1.0], "accuracy", None),
        ([0.5, float("inf")], "loss", None),
        (None, "accuracy", None),
    ],
)
def test_an_interval_is_clipped_to_the_range_of_the_metric(interval, metric, shown):
    assert study_data.interval(study_with_interval(interval, metric)) == shown


def test_throughput_counts_ended_trials_an_hour_and_the_images_of_running_ones():
    running = trial(3, "running", attributes={"history": {"images_per_second": [10.0, 30.0]}})
    assert study_data.throughput(study(trial(0), trial(1, "stopped"), trial(2, "failed"), running, seconds=60.0)) == (180.0, 30.0)
    assert study_data.throughput(study(seconds=0.0)) == (0.0, 0)


def test_planned_trials_are_never_fewer_than_existing_trials():
    assert study_data.planned_trials(study(trial(0), trial(1), config={"budget": {"trials": 1}})) == 2
    assert study_data.planned_trials(study(trial(0), config={"budget": {"trials": 9}})) == 9


def test_a_regression_is_described_without_classes():
    words = study_data.describe_dataset(study(dataset={"task": "regression", "classes": ["age"], "images": {"train": 1000}}))
    assert words == "regression · 1,000 train images at ? px"


def test_nodes_report_their_use_in_percent(record):
    frame = study_data.nodes(record).set_index("node")
    assert list(frame["alive"]) == [True, False]
    assert frame.loc["node-1", "CPUs in use"] == 50
    assert frame.loc["node-1", "memory in use"] == 25
    assert frame.loc["node-1", "memory"] == 16
    assert pd.isna(frame.loc["node-2", "memory in use"])
    assert frame["GPU memory in use"].isna().all()


def test_work_spans_name_the_worker_of_each_trial(record):
    frame = study_data.work_spans(record)
    assert list(frame["trial"]) == [0, 1, 2, 3, 4]
    assert list(frame["worker"]) == ["node-1:11", "node-1:12", "node-1:11", "node-1:12", "node-1:11"]
    assert [(row.ended - row.began).total_seconds() for row in frame.itertuples()] == [40, 40, 20, 10, 20]
    assert frame["why"][2].startswith("rung 50% of its epochs")


def test_share_busy_is_the_share_of_the_time_between_first_and_last_work():
    frame = pd.DataFrame(
        [("w", 0, 30), ("w", 60, 90), ("v", 0, 10)],
        columns=["worker", "began", "ended"],
    ).assign(began=lambda f: BEGAN + pd.to_timedelta(f["began"], "s"), ended=lambda f: BEGAN + pd.to_timedelta(f["ended"], "s"))
    assert study_data.share_busy(frame) == pytest.approx(70 / 100)
    assert study_data.share_busy(frame.iloc[:0]) is None


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 10**6), st.integers(0, 10**6)), max_size=30))
def test_share_busy_is_between_zero_and_one(rows):
    periods = [(worker, BEGAN + timedelta(seconds=start), BEGAN + timedelta(seconds=start + seconds)) for worker, start, seconds in rows]
    share = study_data.share_busy(pd.DataFrame(periods, columns=["worker", "began", "ended"]))
    assert share is None or 0 <= share <= 1


def test_first_start_is_the_earliest_start_of_a_trial():
    assert study_data.first_start(study(trial(0), trial(1, started=datetime(2025, 1, 1)))) == datetime(2025, 1, 1)


def test_a_record_of_an_older_version_has_what_it_recorded(record):
    old = older(record)
    assert list(study_data.best_so_far(old)["best"]) == [0.7, 0.8, 0.8]
    assert len(study_data.learning_curves(old, study_data.trials_to_draw(old))) == 13
    assert study_data.work_spans(old).empty
    assert study_data.nodes(old).empty
    assert study_data.interval(old) is None
    assert study_data.study_cards([old])["gain"][0] == pytest.approx(0.1)


@pytest.mark.parametrize("damage", ["gone", "broken"])
def test_an_interval_whose_report_is_lost_raises_an_injerto_error(played, damage):
    record = read_study(played.name, played.url)
    for path in Path(artifact_location(record.root)).iterdir():
        path.unlink() if damage == "gone" else path.write_text("{")
    with pytest.raises(InjertoError, match="trial 1"):
        study_data.interval(record)


def test_played_trials_report_like_real_trials(record):
    assert record.trials[1].report["pictures"] == pictures(4, 0.8)
    assert record.trials[4].report["pictures"]["epoch"] == 2
    assert record.dataset["classes"] == list(CLASSES)


def test_a_study_without_trials_has_a_card(tmp_path):
    search = PlayedSearch(f"sqlite:///{tmp_path}/studies.db", tmp_path, "young-fig")
    card = study_data.study_cards([read_study(search.name, search.url)]).iloc[0]
    assert pd.isna(card["best"])
    assert card["counts"]["queued"] == 1
    assert card["began"] is None
