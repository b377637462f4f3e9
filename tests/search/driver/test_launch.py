"""Searches in this process: tasks, budgets, what launch rejects, and what must not influence a result."""

import threading
from pathlib import Path

import numpy as np
import pytest

from search.driver.launch import resume, run
from search.record.reader import read_study
from search.record.store import list_study_names, load_study, open_storage
from search.space.backbone_choice import DEFAULT_BACKBONES
from tests.search.conftest import COLOURS, IMAGE_SIZE, REFERENCE, TABLES, folders, numbers, paint
from tests.search.watchers import InterruptAfter
from trainables.config import TrialConfig
from trainables.errors import ConfigError, InjertoError, StorageError
from trainables.networks.weights import backbones_at_hand
from trainables.objectives import METRICS
from trainables.recipe import DEPTH, HEAD_EPOCHS, default_recipe
from trainables.worker.simulated_trial import SimulatedTrial, Simulation


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "metric", "mode"), [("regression", "mae", "min"), ("binary", "auroc", "max"), ("multilabel", "map", "max")]
)
def test_a_search_over_a_table_of_each_task_finishes(task, metric, mode, search, tmp_path):
    record = search(TABLES[task](tmp_path / task), trials=2, epochs=1, name=task, max_concurrent_trials=2)
    assert (record.state, record.metric, record.mode, record.dataset["task"]) == ("finished", metric, mode, task)
    assert record.counts["finished"] == 2
    better = max if mode == "max" else min
    assert record.best.value == better(trial.value for trial in record.trials)
    assert set(record.test["winner"]["test"]) == set(METRICS[task])
    assert record.trials[0].config["label_smoothing"] == 0


def default_of(record, **options):
    """Return the default recipe of a search with the seed and the epochs of its trial 0."""
    images = record.dataset["images"]["train"]
    recipe = default_recipe(images, task="multiclass", stages=5, image_size=IMAGE_SIZE, **options)
    return recipe.model_copy(update={"seed": record.trials[0].config["seed"], "epochs": record.trials[0].epochs_planned})


def test_trial_0_is_the_default_recipe(finished):
    recipe = TrialConfig.model_validate(finished.trials[0].config)
    assert recipe == default_of(finished, backbone="mobilenet_v3_small", weights="none")
    assert (recipe.optimizer, recipe.head_layers, recipe.unfrozen_stages, recipe.head_epochs) == ("adamw", 0, 5, 0)
    assert (recipe.batch_size, recipe.epochs, recipe.label_smoothing) == (8, 3, 0.1)


@pytest.mark.slow
def test_the_defaults_learn_from_few_images(search, photos):
    """The default backbones and weights, in a search of the default recipe alone."""
    record = search(photos, trials=1, epochs=1, weights="imagenet", settings=("backbones=[]",))
    assert record.config["backbones"] == list(backbones_at_hand(DEFAULT_BACKBONES["imagenet"]))
    recipe = TrialConfig.model_validate(record.trials[0].config)
    assert recipe == default_of(record, backbone="efficientnet_lite0", weights="imagenet")
    assert (recipe.unfrozen_stages, recipe.head_epochs) == (DEPTH, HEAD_EPOCHS)
    assert record.best.value >= 7 / 8
    assert record.test["winner"]["test"]["accuracy"] > 0.8


@pytest.mark.slow
def test_each_trial_trains_at_an_image_size_of_the_list(search, photos):
    record = search(photos, trials=4, epochs=1, settings=(f"image_size=[{IMAGE_SIZE}, 48]", "space.unfrozen_stages=0"))
    assert record.config["image_size"] == [IMAGE_SIZE, 48]
    assert [trial.state for trial in record.trials] == ["finished"] * 4
    assert record.trials[0].config["image_size"] == IMAGE_SIZE
    assert (
        {trial.config["image_size"] for trial in record.trials}
        == {trial.params["image_size"] for trial in record.trials}
        == {IMAGE_SIZE, 48}
    )
    for role, trial in (("winner", record.best), ("default_recipe", record.trials[0])):
        assert record.test[role]["preprocessing"]["center_crop"] == trial.config["image_size"]


@pytest.fixture(params=["simulated", pytest.param("real", marks=pytest.mark.slow)])
def trainable(request):
    """Simulated trials of 8 s, 0.2 s for each of 40 epochs; real trials in the slow tests."""
    return SimulatedTrial.of(Simulation(seconds=8)) if request.param == "simulated" else None


def test_a_time_budget_ends_a_search(search, photos, trainable):
    record = search(photos, trials=50, epochs=40, time_budget="3s", settings=("space.unfrozen_stages=0",), trainable=trainable)
    assert (record.state, record.why) == ("finished", "the time budget of 3 s is over")
    last = record.trials[-1]
    assert (last.state, last.stop_reason) == ("stopped", "budget: the time budget of 3 s is over")
    assert 1 <= last.epochs_done < 40
    assert len(record.trials) < 50
    assert record.counts["running"] + record.counts["paused"] + record.counts["queued"] == 0


@pytest.mark.parametrize("trainable", [SimulatedTrial, pytest.param(None, marks=pytest.mark.slow)])
def test_a_target_ends_a_search(search, photos, trainable):
    record = search(photos, trials=50, target=0.01, metric="accuracy", settings=("space.unfrozen_stages=0",), trainable=trainable)
    assert (record.state, record.why) == ("finished", "the target 0.01 is reached")
    assert len(record.trials) < 5


@pytest.mark.slow
def test_a_resumed_search_equals_an_uninterrupted_one(search, photos, finished, tmp_path):
    options = REFERENCE | {"trials": 5, "name": "calm-fig"}
    paused = search(photos, watcher=InterruptAfter(10), **options)
    assert (paused.state, paused.why) == ("interrupted", "interrupted by hand")
    assert (paused.counts["finished"], paused.counts["paused"]) == (3, 1)
    assert paused.trials[3].epochs_done == 2  # the one under way when the interrupt came is its last
    storage = f"sqlite:///{tmp_path}/studies.db"
    assert not (paused.folder / "best.yaml").exists()
    with pytest.raises(StorageError, match="'calm-fig' exists already"):
        search(photos, name="calm-fig")

    record = resume("calm-fig", storage)
    assert record.state == "finished"
    assert record.counts["paused"] == 0
    expected = finished.trials[:5]
    assert [trial.number for trial in record.trials] == [trial.number for trial in expected]
    assert [trial.config for trial in record.trials] == [trial.config for trial in expected]
    assert [numbers(trial) for trial in record.trials] == [numbers(trial) for trial in expected]
    assert [(trial.state, trial.stop_reason) for trial in record.trials] == [(trial.state, trial.stop_reason) for trial in expected]
    assert record.seconds > paused.seconds
    with pytest.raises(StorageError, match="'calm-fig' has finished"):
        resume("calm-fig", storage)


@pytest.mark.slow
def test_a_search_interrupted_after_its_last_trial_resumes_to_its_result(search, photos, tmp_path):
    paused = search(photos, trials=1, name="late-plum", watcher=InterruptAfter(2))
    assert (paused.state, paused.counts["finished"]) == ("interrupted", 1)
    record = resume("late-plum", f"sqlite:///{tmp_path}/studies.db")
    assert (record.state, record.counts["finished"]) == ("finished", 1)
    assert (record.folder / "best.safetensors").exists()


def test_run_rejects_an_unknown_option(photos):
    with pytest.raises(ConfigError, match="unknown option 'trails'; did you mean 'trials'"):
        run(photos, trails=3)


@pytest.mark.parametrize(
    ("options", "fragment"),
    [
        ({"max_concurrent_trials": 1, "settings": ("resources.cpus_per_trial=64",)}, "a trial needs 64 CPUs"),
        ({"settings": ("resources.gpus_per_trial=1", "resources.cpus_per_trial=1")}, "1 GPUs, but the cluster has"),
    ],
)
def test_trials_that_do_not_fit_the_cluster_are_rejected_without_a_trace(options, fragment, search, photos, tmp_path):
    with pytest.raises(InjertoError, match=fragment):
        search(photos, name="too-large", **options)
    assert list_study_names(open_storage(f"sqlite:///{tmp_path}/studies.db")) == []
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_not_empty_is_rejected_and_unchanged(search, photos, tmp_path):
    (tmp_path / "out" / "mine").mkdir(parents=True)
    (tmp_path / "out" / "mine" / "thesis.txt").write_text("precious")
    with pytest.raises(StorageError, match="is not empty"):
        search(photos, name="mine")
    assert [path.name for path in (tmp_path / "out" / "mine").iterdir()] == ["thesis.txt"]


def labelled(root, permute, *, tests, trains=60, validations=18):
    """Write a CSV with a split column; `permute` names the splits whose labels are shuffled."""
    rng, names, rows = np.random.default_rng(2), sorted(COLOURS), []
    for split, count in {"train": trains, "validation": validations, "test": tests}.items():
        labels = [names[index % 3] for index in range(count)]
        for index, label in enumerate(labels):
            paint(root / f"{split}{index}.png", COLOURS[label], rng)
        shown = list(np.random.default_rng(5).permutation(labels)) if split in permute else labels
        rows += [f"{split}{index}.png,{label},{split}" for index, label in enumerate(shown)]
    (root / "labels.csv").write_text("image,label,split\n" + "\n".join(rows))
    return root / "labels.csv"


@pytest.mark.slow
def test_test_labels_influence_no_decision(search, tmp_path):
    """With the test labels permuted everything but the test scores is the same, bit for bit."""
    true, wrong = (
        search(labelled(tmp_path / name, permute, tests=18), trials=3, seed=1, name=name, metric="loss")
        for name, permute in {"true": (), "wrong": ("test",)}.items()
    )
    assert [trial.config for trial in true.trials] == [trial.config for trial in wrong.trials]
    assert [numbers(trial) for trial in true.trials] == [numbers(trial) for trial in wrong.trials]
    assert [trial.state for trial in true.trials] == [trial.state for trial in wrong.trials]
    assert (true.best.number, true.best.value) == (wrong.best.number, wrong.best.value)
    weights = [(record.folder / "best.safetensors").read_bytes() for record in (true, wrong)]
    assert len(weights[0]) == len(weights[1])
    assert true.test["winner"]["test"] != wrong.test["winner"]["test"]


@pytest.mark.slow
def test_permuted_labels_score_at_chance(search, tmp_path):
    record = search(labelled(tmp_path / "noise", ("train", "validation", "test"), tests=60), trials=2, metric="accuracy")
    assert record.test["winner"]["test"]["accuracy"] < 0.55


def test_the_record_holds_configuration_data_and_versions(finished, finished_storage):
    study = load_study(open_storage(finished_storage), finished.name)
    assert set(study.user_attrs) >= {"config", "dataset", "space", "metric", "folder", "versions", "status", "test"}
    assert study.user_attrs["config"]["data"]["source"].startswith("/")
    assert finished.versions["optuna"]
    assert finished.dataset["images"] == {"train": 33, "validation": 8, "test": 7}
    assert not (finished.folder / "ray").exists()


def test_resume_rejects_a_running_search_lost_states_and_changed_images(search, tmp_path):
    source, storage, refusals = folders(tmp_path / "changing", each=8), f"sqlite:///{tmp_path}/studies.db", []

    class TryToResume(InterruptAfter):
        def event(self, event):
            super().event(event)
            if event.kind == "began":
                refusals.append(read_study("ripe-pear", storage).status_json()["state"])
                with pytest.raises(StorageError, match="is running since"):
                    resume("ripe-pear", storage)

    simulated = SimulatedTrial.of(Simulation(seconds=1))
    paused = search(source, trials=2, epochs=3, name="ripe-pear", watcher=TryToResume(1), trainable=simulated)
    assert refusals == ["running"]
    assert paused.state == "interrupted"
    moved = paused.folder.rename(tmp_path / "elsewhere")
    with pytest.raises(StorageError, match="is gone, and the checkpoints of its trials with it"):
        resume("ripe-pear", storage)
    moved.rename(paused.folder)
    study = load_study(open_storage(storage), "ripe-pear")
    facts = study.user_attrs["dataset"]
    study.set_user_attr("dataset", facts | {"fingerprint": facts["fingerprint"][:16] + "0" * 8, "decoder": "3 0.0.1 0.0.2"})
    with pytest.raises(ConfigError, match=r"may be decoded to other pixels than when 'ripe-pear' began: Pillow .* here but 0\.0\.1 there"):
        resume("ripe-pear", storage)
    study.set_user_attr("dataset", facts)
    paint(source / "red" / "9.png", COLOURS["red"], np.random.default_rng(9))
    with pytest.raises(ConfigError, match="have changed since 'ripe-pear' began"):
        resume("ripe-pear", storage)
    assert read_study("ripe-pear", storage).state == "interrupted"


@pytest.mark.slow
def test_run_takes_relative_paths_in_any_thread_and_chooses_fresh_names(ray_session, tmp_path, monkeypatch):
    monkeypatch.chdir(folders(tmp_path / "photos", each=8).parent)
    options = {"storage": "sqlite:///here.db", "output": "results", "image_size": IMAGE_SIZE, "trials": 1}
    settings = ("space.epochs=1", "space.unfrozen_stages=0")
    first = run("photos", settings=settings, **options)
    assert (first.state, first.folder) == ("finished", tmp_path / "results" / first.name)
    assert Path.cwd() == tmp_path

    found = []
    thread = threading.Thread(target=lambda: found.append(run("photos", settings=settings, **options)))
    thread.start()
    thread.join()
    assert found[0].state == "finished"
    storage = f"sqlite:///{tmp_path}/here.db"
    assert list_study_names(open_storage(storage)) == [first.name, found[0].name]
    assert read_study(None, storage).name == found[0].name != first.name
