import dataclasses
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboard import frames
from search.records import read_study
from search.store import artifact_place
from trainables.errors import StorageError


def test_trials_say_what_came_of_each_and_why(record):
    frame = frames.trials(record)
    assert list(frame["state"]) == ["finished", "finished", "stopped", "failed", "running"]
    assert list(frame["value"]) == [0.7, 0.8, 0.9, 0.3, 0.35]
    assert list(frame["epochs"]) == ["4/4", "4/4", "2/4", "1/4", "2/4"]
    assert frame["why it ended"][0] == "the default recipe; all its epochs are done"
    assert frame["why it ended"][2].startswith("rung 50% of its epochs: 0.9")
    assert frame["why it ended"][3] == "other: ValueError: <b>bad</b> luck"
    assert frame["why it ended"][4] == ""
    assert frame["learning_rate"].notna().all()


def test_curves_are_over_each_trials_own_progress(record):
    frame = frames.curves(record)
    assert list(frame[frame["trial"] == 1]["progress"]) == [25.0, 50.0, 75.0, 100.0]
    assert list(frame[frame["trial"] == 1]["value"]) == [0.5, 0.6, 0.7, 0.8]
    assert frame.drop_duplicates("trial").set_index("trial")["role"].to_dict() == {
        0: "default recipe",
        1: "best",
        2: "stopped",
        3: "failed",
        4: "running",
    }


def test_best_so_far_counts_finished_trials_only(record):
    frame = frames.best_so_far(record)
    assert list(frame["trial"]) == [0, 1, 2]
    assert list(frame["best"]) == [0.7, 0.8, 0.8]
    assert frame["minutes"].is_monotonic_increasing
    assert (frame["minutes"] >= 0).all()


def test_best_so_far_goes_down_where_less_is_better(record):
    assert list(frames.best_so_far(dataclasses.replace(record, mode="min"))["best"]) == [0.7, 0.7, 0.7]


def test_gain_is_positive_for_better_in_either_direction(record):
    assert frames.gain(record) == pytest.approx(0.1)
    assert str(frames.gain(dataclasses.replace(record, mode="min"))) == "0.0"
    assert frames.gain(dataclasses.replace(record, trials=record.trials[1:2])) == 0.0
    assert frames.gain(dataclasses.replace(record, trials=())) is None


def test_scores_begin_with_the_studys_metric(played):
    assert frames.scores(read_study(played.name, played.url)).empty
    played.test_scores()
    frame = frames.scores(read_study(played.name, played.url))
    assert list(frame.columns) == ["", "accuracy", "loss"]
    assert frame.to_dict("list") == {"": ["winner", "default recipe"], "accuracy": [0.8125, 0.75], "loss": [0.25, 0.5]}


def test_losses_come_from_the_artifact(record):
    frame = frames.losses(record.trials[1])
    assert list(frame[frame["split"] == "training"]["loss"]) == [1.5, 1.4, 1.3, 1.2]
    assert list(frame["epoch"]) == [1, 2, 3, 4] * 2


@pytest.mark.parametrize("damage", ["gone", "broken"])
def test_a_lost_history_is_an_error_for_the_user(played, damage):
    record = read_study(played.name, played.url)
    for path in Path(artifact_place(record.trials[1].root)).iterdir():
        path.unlink() if damage == "gone" else path.write_text("{")
    with pytest.raises(StorageError, match="history of trial 1"):
        frames.losses(record.trials[1])


def test_a_configuration_of_another_version_is_an_error_for_the_user(record):
    assert len(frames.configuration(record.trials[1])) == 4
    with pytest.raises(StorageError, match="trial 1 is of another version"):
        frames.configuration(dataclasses.replace(record.trials[1], config={}))


def test_studies_are_listed_from_the_latest(record):
    frame = frames.studies([record, dataclasses.replace(record, name="later", trials=())])
    assert list(frame["study"]) == ["later", "calm-fig"]
    assert list(frame["planned"]) == [8, 8]
    assert frame["best"].isna().tolist() == [True, False]
    assert frame["sparkline"][1] == [0.7, 0.8, 0.8]
    assert frame["dataset"][1] == "multiclass, 2 classes · 1,000 train, 200 validation, 200 test images at 32 px"


def test_frames_of_nothing_keep_their_columns(record):
    nothing = dataclasses.replace(record, trials=())
    assert list(frames.best_so_far(nothing).columns) == ["trial", "state", "minutes", "value", "best"]
    for frame in (frames.trials(nothing), frames.curves(nothing), frames.best_so_far(nothing)):
        assert frame.empty


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.4, "0 s"), (59.6, "1 min"), (3725, "1 h 2 min"), (86400, "1 d"), (None, "–"), (float("nan"), "–"), (-5, "0 s")],
)
def test_durations_have_two_units_at_most(seconds, words):
    assert frames.duration(seconds) == words


@given(st.integers(0, 10**7))
def test_durations_lose_less_than_the_smaller_unit(seconds):
    sizes = {"d": 86400, "h": 3600, "min": 60, "s": 1}
    words = frames.duration(seconds).split()
    said = sum(int(count) * sizes[unit] for count, unit in zip(words[::2], words[1::2], strict=True))
    assert 0 <= seconds - said < (sizes[words[1]] if seconds >= 60 else 1)
