import dataclasses
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dashboard.data import trial_data
from search.record.artifacts import artifact_location
from search.record.reader import read_study
from tests.dashboard.played_search import pictures
from tests.dashboard.records import trial
from trainables.errors import StorageError

SHARE = st.floats(0, 1)


def test_metrics_begin_with_the_objective_and_the_losses(record):
    frame = trial_data.metrics(record.trials[1])
    assert list(frame["metric"].unique()) == ["accuracy", "train_loss", "loss"]
    assert list(frame[frame["metric"] == "train_loss"]["value"]) == [1.5, 1.4, 1.3, 1.2]
    assert list(frame["epoch"]) == [1, 2, 3, 4] * 3


def test_metrics_of_time_come_last():
    history = {"seconds_training": [1.0], "images_per_second": [9.0], "macro_f1": [0.5], "learning_rate": [0.1], "objective": [0.5]}
    frame = trial_data.metrics(trial(0, attributes={"history": history}))
    assert list(frame["metric"]) == ["macro_f1", "learning_rate", "images_per_second", "seconds_training"]


def test_a_trial_without_an_epoch_has_no_metrics_and_no_report(tmp_path):
    silent = trial(7, "running", attributes={}, root=str(tmp_path))
    assert trial_data.metrics(silent).empty
    assert silent.report == {}


@pytest.mark.parametrize("damage", ["gone", "broken"])
@pytest.mark.parametrize("ask", [trial_data.metrics, lambda trial: trial.report], ids=["metrics", "report"])
def test_a_lost_artifact_raises_a_storage_error(played, damage, ask):
    record = read_study(played.name, played.url)
    for path in Path(artifact_location(record.root)).iterdir():
        path.unlink() if damage == "gone" else path.write_text("{")
    with pytest.raises(StorageError, match="trial 1"):
        ask(record.trials[1])


def test_the_report_of_a_running_trial_is_read_from_its_folder(record):
    trial_report = record.trials[4].report
    assert trial_report["log"] == ["epoch 1: objective 0.2", "epoch 2: objective 0.35"]
    assert trial_report["pictures"]["epoch"] == 2


def test_a_trial_of_an_older_version_has_no_report(record, tmp_path):
    old = dataclasses.replace(record.trials[1], attributes={"history": {}}, root=str(tmp_path))
    assert old.report == {}


def test_the_confusion_matrix_has_true_classes_as_rows():
    frame = trial_data.confusion(pictures(4, 0.8))
    assert frame.loc["a"].tolist() == [90, 10]
    assert frame.loc["b"].tolist() == [30, 70]


@settings(deadline=None, max_examples=50)
@given(st.lists(st.lists(st.integers(1, 50), min_size=3, max_size=3), min_size=3, max_size=3))
def test_the_confusion_matrix_counts_every_image(counts):
    pairs = [[truth, predicted, count] for truth, row in enumerate(counts) for predicted, count in enumerate(row)]
    frame = trial_data.confusion({"classes": ["a", "b", "c"], "confusion": pairs})
    assert frame.to_numpy().tolist() == counts


def test_classes_of_equal_name_have_separate_rows():
    frame = trial_data.confusion({"classes": [1, "1"], "confusion": [[0, 1, 3], [1, 1, 4]]})
    assert frame.to_numpy().tolist() == [[0, 3], [0, 4]]
    assert list(frame.columns) == ["1", "1"]


def test_confusions_exclude_correct_predictions_and_are_limited():
    assert trial_data.confused(pictures(4, 0.8)).to_dict("list") == {"true → predicted": ["b → a", "a → b"], "images": [30, 10]}
    many = {"classes": list(range(50)), "confusion": [[0, predicted, 50 - predicted] for predicted in range(50)]}
    frame = trial_data.confused(many)
    assert len(frame) == trial_data.MOST_PAIRS
    assert frame["true → predicted"][0] == "0 → 1"


def test_reliability_is_in_percent_and_its_error_is_weighted_by_images():
    frame = trial_data.reliability(pictures(4, 0.8))
    assert frame["predicted"].tolist() == [60, 95]
    assert frame["correct"].tolist() == [50, 90]
    assert trial_data.calibration_error(frame) == pytest.approx((10 * 50 + 5 * 150) / 200)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(SHARE, SHARE, st.integers(1, 1000)), min_size=1, max_size=10))
def test_the_calibration_error_is_never_more_than_the_worst_bin(bins):
    frame = trial_data.reliability({"reliability": [list(one) for one in bins]})
    off = (frame["predicted"] - frame["correct"]).abs()
    assert off.min() - 1e-9 <= trial_data.calibration_error(frame) <= off.max() + 1e-9


def test_labels_are_sorted_by_average_precision():
    frame = trial_data.precision({"classes": ["cat", "dog", 3], "precision": [[0, 0.9, 5], [1, 0.2, 7], [2, 0.5, 1]]})
    assert frame["label"].tolist() == ["dog", "3", "cat"]
    assert frame["images"].tolist() == [7, 1, 5]


def test_scatter_has_a_row_per_image():
    frame = trial_data.scatter({"scatter": [[1.0, 2.0], [3.0, 4.0]]})
    pd.testing.assert_frame_equal(frame, pd.DataFrame({"truth": [1.0, 3.0], "prediction": [2.0, 4.0]}))
    assert trial_data.scatter({"scatter": []}).empty
