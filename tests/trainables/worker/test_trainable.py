"""A trial that several workers train, one after another or at the same time, from states in a folder or on a real S3 server."""

import re

import pytest
import torch

from tests.trainables.replicating import train_alone
from trainables.config import DataConfig
from trainables.errors import DamagedError, StorageError
from trainables.storage.locations import join
from trainables.storage.root import Root
from trainables.storage.saved_states import SavedStates
from trainables.worker.assignment import Assignment
from trainables.worker.final_evaluation import evaluate_finished
from trainables.worker.trainable import ImageTrial

pytestmark = pytest.mark.usefixtures("short_epochs")
EPOCHS = 4


@pytest.fixture(params=["folder", "bucket"])
def folder(request, tmp_path):
    root = str(tmp_path) if request.param == "folder" else request.getfixturevalue("bucket")
    return join(root, "trials/00000")


@pytest.fixture
def trial(tiny):
    return tiny(epochs=EPOCHS, weights="none", unfrozen_stages=0)


@pytest.fixture
def worker(multiclass, trial, folder):
    """Returns a new worker of the trial; the record has `reported` epochs."""

    def start(reported=0):
        assignment = Assignment(
            number=0,
            trial=trial,
            data=DataConfig(),
            task=multiclass.task,
            fingerprint=multiclass.fingerprint,
            metric="accuracy",
            folder=folder,
            reported=reported,
        )
        return ImageTrial({"assignment": assignment.model_dump(mode="json")})

    return start


def content(folder):
    """Return the names of the states and what is in them."""
    return {key: Root(folder).read(key) for key in SavedStates(folder).names()}


def log(folder):
    return Root(folder).read("account.json").decode()


def finish(worker):
    while not (report := worker.step())["done"]:
        pass
    return report


def test_a_worker_taken_for_lost_does_not_throw_the_trial_back(worker, folder, multiclass, trial):
    old = worker()
    assert [old.step()["epoch"] for _ in range(2)] == [1, 2]
    new = worker(reported=2)
    assert [new.step()["epoch"] for _ in range(2)] == [3, 4]
    assert old.step()["epoch"] == 3, "it still runs, and saves an older state after its successor"
    report = worker(reported=4).step()
    assert (report["epoch"], report["done"], report["facts"]["restarts"]) == (4, True, [])
    expected, _ = train_alone(multiclass, trial, metric="accuracy")
    assert report["history"]["accuracy"] == expected["accuracy"]


def test_a_truncated_state_falls_back_to_the_older_one_and_says_so(worker, folder, multiclass, trial):
    first = worker()
    first.step()
    (older,) = content(folder).items()
    first.step()
    (newest,) = content(folder).items()
    Root(folder).write(*older)
    Root(folder).write(newest[0], newest[1][:1000])
    with pytest.raises(DamagedError, match=rf"{newest[0]}.*is not a readable checkpoint"):
        evaluate_finished(first._assignment["assignment"])

    second = worker(reported=2)
    report = second.step()
    assert report["epoch"] == 2
    (restart,) = report["facts"]["restarts"]
    assert restart.startswith("the trial continues after epoch 1, although 2 epochs are recorded: ")
    assert re.search(f"{newest[0]}.* is not a readable checkpoint", restart)
    assert "\n" not in restart
    assert "warning: the trial continues after epoch 1" in log(folder)
    assert "epoch 1: accuracy" in log(folder), "the earlier worker's lines are kept"
    assert [key[:12] for key in content(folder)] == ["state-000002"]
    report = finish(worker(reported=2))
    assert report["facts"]["restarts"] == [restart], "later workers report it as well"
    expected, _ = train_alone(multiclass, trial, metric="accuracy")
    assert report["history"]["accuracy"] == expected["accuracy"]


def test_damaged_states_only_begin_from_the_start_and_say_so(worker, folder):
    first = worker()
    first.step()
    older = content(folder)
    first.step()
    damaged = older | content(folder)
    for key in damaged:
        Root(folder).write(key, b"")
    assert len(content(folder)) == 2
    report = worker(reported=2).step()
    assert report["epoch"] == 1
    (restart,) = report["facts"]["restarts"]
    assert restart.startswith("the trial starts from the beginning, although 2 epochs are recorded: ")
    assert restart.count("is not a readable checkpoint") == 2
    assert all(key in restart for key in damaged)
    assert "warning: the trial starts from the beginning" in log(folder)
    assert report["facts"]["checkpoint"] == join(folder, *content(folder))
    assert report["facts"]["checkpoint_bytes"] == len(*content(folder).values())


def test_recorded_epochs_without_a_state_are_a_restart(worker, folder):
    report = worker(reported=3).step()
    (restart,) = report["facts"]["restarts"]
    assert restart.startswith("the trial starts from the beginning, although 3 epochs are recorded: there is no newer state in ")
    assert restart in log(folder)


def test_a_state_of_an_earlier_version_is_continued(worker, folder):
    worker().step()
    (key,) = content(folder)
    with Root(folder).open(key) as file:
        loaded = torch.load(file, weights_only=True)
    assert loaded.pop("restarts") == []
    with Root(folder).writing("last.pt") as file:
        torch.save(loaded, file)
    Root(folder).remove(key)
    second = worker(reported=1)
    report = second.step()
    assert (report["epoch"], report["facts"]["restarts"]) == (2, [])
    assert [key[:12] for key in content(folder)] == ["state-000002"]
    assert finish(second)["epoch"] == EPOCHS
    assert "accuracy" in evaluate_finished(second._assignment["assignment"])["validation"]


def test_a_trial_without_a_state_cannot_be_evaluated(worker, folder):
    with pytest.raises(StorageError, match=r"trial 0 left no checkpoint in .*00000"):
        evaluate_finished(worker()._assignment["assignment"])
