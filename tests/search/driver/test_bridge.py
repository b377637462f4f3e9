import json
import os
import signal
import threading

import pytest
from optuna.artifacts import get_all_artifact_meta
from optuna.trial import TrialState

from search.record.store import load_study, open_storage
from search.watcher import SilentWatcher
from tests.search.conftest import folders, numbers, regression_table, workers
from trainables.worker.assignment import progress

ATTRIBUTES = {
    "ray_trial_id",
    "config",
    "epochs_planned",
    "epochs_done",
    "stop_reason",
    "seconds_training",
    "seconds_total",
    "gpu_seconds",
    "peak_memory_bytes",
    "trainable_parameters",
    "node",
    "seed",
    "checkpoint",
    "history",
}


@pytest.fixture(scope="module")
def study(finished, finished_storage):
    return load_study(open_storage(finished_storage), finished.name)


class Hooks(SilentWatcher):
    """Calls `begin(plan)` when trials start and `event(event)` at every event of a trial."""

    def __init__(self, begin=None, event=None):
        self._begin, self._event = begin, event

    def begin(self, name, plan, slots, stop_condition, ended):
        if self._begin:
            self._begin(plan)

    def event(self, event):
        if self._event:
            self._event(event)


def test_a_finished_search_leaves_no_trial_open(finished):
    assert finished.state == "finished"
    assert finished.why == "all 6 trials have ended"
    counts = finished.counts
    assert counts["finished"] + counts["stopped"] == len(finished.trials) == 6
    assert counts["stopped"] >= 1


def test_history_holds_every_epoch_and_the_value_is_the_last_one(finished, study):
    for trial, frozen in zip(finished.trials, study.trials, strict=True):
        history = trial.history
        assert {len(values) for values in history.values()} == {trial.epochs_done}
        assert history["objective"] == history["loss"]
        assert frozen.value == history["objective"][-1]
        steps = [progress(epoch, trial.epochs_planned) for epoch in range(1, trial.epochs_done + 1)]
        assert dict(zip(steps, history["objective"], strict=True)) == dict(frozen.intermediate_values)


def test_stopped_trials_name_their_rung_and_finished_ones_no_reason(finished, study):
    for trial, frozen in zip(finished.trials, study.trials, strict=True):
        if frozen.state == TrialState.COMPLETE:
            assert (trial.epochs_done, trial.stop_reason) == (trial.epochs_planned, "")
        else:
            assert frozen.state == TrialState.PRUNED
            assert trial.epochs_done < trial.epochs_planned
            assert trial.stop_reason.startswith("rung 33% of its epochs: ")
            assert trial.number >= 4


def test_a_trial_has_all_documented_attributes(finished, study):
    for frozen in study.trials:
        assert set(frozen.user_attrs) >= ATTRIBUTES
        artifact = finished.folder / "artifacts" / frozen.user_attrs["history"]["artifact"]
        assert json.loads(artifact.read_text())["objective"]
        assert frozen.user_attrs["seconds_total"] >= frozen.user_attrs["seconds_training"] > 0
        assert frozen.user_attrs["seed"] == 3 * 100_003 + frozen.number


def test_history_and_report_of_an_ended_trial_are_artifacts_only(finished, study):
    for trial, frozen in zip(finished.trials, study.trials, strict=True):
        names = [artifact.filename for artifact in get_all_artifact_meta(frozen, storage=study._storage)]
        assert sorted(names) == ["account.json", "history.json"]
        pictures = trial.report["pictures"]
        assert pictures["epoch"] == trial.epochs_done
        assert sum(count for _, _, count in pictures["confusion"]) == pictures["images"]
        assert f"epoch {trial.epochs_done}: " in trial.report["log"][-1]
        assert len(trial.attributes["spans"]) >= 1
    assert not list(finished.folder.glob("trials/*/account.json"))


def test_the_study_has_augmentation_previews(finished):
    previews = finished.augmentation
    assert list(previews["sheets"]) == [str(step / 8) for step in range(9)]
    assert all((finished.folder / "artifacts" / artifact).read_bytes()[:2] == b"\xff\xd8" for artifact in previews["sheets"].values())


def test_checkpoints_of_the_default_recipe_and_the_best_three_are_kept(finished):
    kept = {int(path.parent.name) for path in finished.folder.glob("trials/*/state-*.pt")}
    assert kept == {0} | {trial.number for trial in finished.ranking[:3]}


@pytest.mark.slow
def test_a_killed_worker_loses_no_epoch(search, photos, finished):
    killed = []

    def kill(event):
        if event.kind == "epoch" and event.epoch == 2 and not killed:
            killed.extend(worker.pid for worker in workers())
            threading.Thread(target=lambda: [os.kill(pid, signal.SIGKILL) for pid in killed]).start()

    record = search(photos, trials=1, epochs=3, metric="loss", seed=3, watcher=Hooks(event=kill))
    assert killed
    assert [trial.state for trial in record.trials] == ["finished"]
    assert numbers(record.trials[0]) == numbers(finished.trials[0])


@pytest.mark.slow
def test_a_trial_whose_worker_is_killed_after_each_epoch_finishes(search, photos):
    events = []

    def kill(event):
        events.append((event.kind, event.epoch))
        if event.kind == "epoch" and event.number == 0 and event.epoch < 5:
            for worker in workers():
                worker.kill()

    record = search(photos, trials=2, epochs=5, watcher=Hooks(event=kill), settings=("space.unfrozen_stages=0",))
    assert [trial.state for trial in record.trials] == ["finished", "finished"]
    retries = record.trials[0].attributes["retries"]
    assert [retry["kind"] for retry in retries] == ["lost worker"] * 4
    assert [retry["epoch"] for retry in retries] == [1, 2, 3, 4]
    assert [epoch for kind, epoch in events if kind == "retry"] == [1, 2, 3, 4]


def test_a_non_finite_loss_fails_the_trial_and_keeps_its_epochs(search, tmp_path):
    settings = ("optimizer=sgd", "learning_rate=2.2", "momentum=0", "clip_norm=0", "warmup=0", "schedule=constant", "loss=mse") + (
        "unfrozen_stages=0",
        "head_layers=0",
        "augmentation_strength=0",
    )
    record = search(regression_table(tmp_path / "weights"), trials=2, epochs=12, settings=tuple(f"space.{setting}" for setting in settings))
    assert record.state == "finished"
    for trial in record.trials:
        assert (trial.state, trial.error["kind"]) == ("failed", "non-finite")
        assert trial.stop_reason.startswith("non-finite: ")
        assert len(trial.history.get("objective", [])) == trial.epochs_done < 12
    later = [trial for trial in record.trials if trial.epochs_done]
    assert later, "a loss that grows by about 10^22 an epoch is finite after the first"
    for trial in later:
        assert trial.attributes["seconds_total"] > 0
        assert trial.is_default_recipe or not list(record.folder.glob(f"trials/{trial.number:05d}/*"))
    assert not (record.folder / "best.yaml").exists()


@pytest.mark.slow
def test_an_exception_is_retried_and_then_fails_its_trial(search, tmp_path):
    """A damaged manifest in the cache makes a worker raise an error that belongs to no kind of failure."""
    broken = []

    def damage(plan):
        manifest = next(p for p in cache.glob(f"datasets/{plan.dataset.fingerprint}/manifest.json"))
        broken.append((manifest, manifest.read_text()))
        manifest.write_text(json.dumps({"survey_key": 3}))

    def repair(event):
        if event.kind == "failed":
            manifest, text = broken[0]
            manifest.write_text(text)

    from trainables.storage.cache import cache_root

    cache = cache_root()
    record = search(folders(tmp_path / "other", each=10), trials=2, watcher=Hooks(begin=damage, event=repair))
    first, second = record.trials
    assert (first.state, first.error["kind"]) == ("failed", "other")
    assert "KeyError" in first.error["traceback"]
    assert len(first.attributes["retries"]) == 2
    assert first.error["message"].startswith("KeyError") or "bits" in first.error["message"]
    assert second.state == "finished"
    assert record.best.number == 1


@pytest.mark.slow
def test_changed_images_fail_the_trial_with_kind_data(search, tmp_path):
    """If the cache is lost and an image has been removed, a worker does not train on other data."""
    source = folders(tmp_path / "changing", each=8)

    def change(plan):
        from trainables.storage.cache import cache_root

        next(cache_root().glob(f"datasets/{plan.dataset.fingerprint}/manifest.json")).unlink()
        (source / "red" / "0.png").unlink()

    record = search(source, trials=1, watcher=Hooks(begin=change))
    (trial,) = record.trials
    assert (trial.state, trial.error["kind"]) == ("failed", "data")
    assert "have changed since the search began" in trial.error["message"]
