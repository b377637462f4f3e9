import math
import threading
from io import StringIO

import pytest

from search.events import Event
from search.policy.rungs import StopCondition
from search.trackers.tracker import flat, identity
from search.trackers.tracker_thread import TRACKERS, Told, trackers
from tests.search.conftest import watched_plan
from trainables.config import TrialConfig
from trainables.errors import ConfigError

CONFIG = TrialConfig(epochs=3, learning_rate=0.0125)


def run(name, output, events, *, ended=0, pausing=False):
    """Let a tracker hear a search; return what it had to say."""
    said = []
    (told,) = trackers([name], said.append)
    with told:
        told.begin("calm-fig", watched_plan(output), 2, StopCondition("max", trials=2), ended)
        for event in events:
            told.event(event)
        told.pausing("interrupted") if pausing else told.finishing()
    return said


def curve(number, epochs, first=1):
    return [Event("began", number, CONFIG, epoch=first - 1)] + [
        Event(
            "epoch",
            number,
            CONFIG,
            epoch=epoch,
            value=epoch / 10,
            metrics={"objective": epoch / 10, "accuracy": epoch / 10, "loss": math.nan},
        )
        for epoch in range(first, epochs + 1)
    ]


def end(kind, number, reason=""):
    return Event(kind, number, CONFIG, epoch=3, value=0.3, reason=reason, seconds=1.0)


SEARCH = [*curve(0, 3), *curve(1, 2), end("finished", 0), end("stopped", 1, "rung 33%")]
BEFORE = [*curve(0, 2), end("paused", 0, "interrupted")]
AFTER = [*curve(0, 3, first=3), end("finished", 0)]


def scalars(folder, tag="accuracy"):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder))
    found.Reload()
    return [(event.step, round(event.value, 6)) for event in found.Scalars(tag)], found


def test_tensorboard_reads_it_back(tmp_path):
    assert run("tensorboard", tmp_path, SEARCH) == []
    folder = tmp_path / "calm-fig" / "tensorboard"
    assert sorted(path.name for path in folder.iterdir()) == ["00000", "00001"]
    points, found = scalars(folder / "00000")
    assert points == [(1, 0.1), (2, 0.2), (3, 0.3)]
    assert set(found.Tags()["scalars"]) == {"objective", "accuracy", "loss"}
    assert scalars(folder / "00001")[0] == [(1, 0.1), (2, 0.2)]
    _, stopped = scalars(folder / "00001")
    assert stopped.Tensors("ended/text_summary")[0].tensor_proto.string_val == [b"stopped: rung 33%"]


def test_tensorboard_shows_the_configuration_in_its_hparams_tab(tmp_path):
    from tensorboard.plugins.hparams import metadata

    assert run("tensorboard", tmp_path, SEARCH) == []
    _, found = scalars(tmp_path / "calm-fig" / "tensorboard" / "00000")
    held = found.PluginTagToContent("hparams")
    start = metadata.parse_session_start_info_plugin_data(held[metadata.SESSION_START_INFO_TAG])
    assert start.hparams["learning_rate"].number_value == 0.0125
    assert start.hparams["backbone"].string_value == CONFIG.backbone
    experiment = metadata.parse_experiment_plugin_data(held[metadata.EXPERIMENT_TAG])
    assert [info.name.tag for info in experiment.metric_infos] == ["accuracy"]
    assert metadata.SESSION_END_INFO_TAG in held


def test_tensorboard_goes_on_after_a_pause_and_writes_no_epoch_twice(tmp_path):
    assert run("tensorboard", tmp_path, BEFORE, pausing=True) == []
    assert run("tensorboard", tmp_path, curve(0, 3, first=2), ended=0) == []
    assert scalars(tmp_path / "calm-fig" / "tensorboard" / "00000")[0] == [(1, 0.1), (2, 0.2), (3, 0.3)]


def test_tensorboard_goes_on_after_a_lost_worker(tmp_path):
    events = [*curve(0, 2), Event("retry", 0, CONFIG, epoch=1, reason="lost worker"), *curve(0, 3, first=2)[1:], end("finished", 0)]
    assert run("tensorboard", tmp_path, events) == []
    assert scalars(tmp_path / "calm-fig" / "tensorboard" / "00000")[0] == [(1, 0.1), (2, 0.2), (3, 0.3)]


@pytest.fixture
def mlflow(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow", reason="MLflow is not installed: pip install mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    return mlflow


def mlflow_runs(mlflow):
    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name("injerto").experiment_id
    return client, {run.info.run_name: run for run in client.search_runs([experiment])}


def test_mlflow_holds_a_run_for_the_study_and_one_for_each_trial(tmp_path, mlflow):
    assert run("mlflow", tmp_path, SEARCH) == []
    client, runs = mlflow_runs(mlflow)
    assert {name: found.info.status for name, found in runs.items()} == {
        "calm-fig": "FINISHED",
        "trial 0": "FINISHED",
        "trial 1": "KILLED",
    }
    parent, trial = runs["calm-fig"], runs["trial 0"]
    assert trial.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert trial.data.params["learning_rate"] == "0.0125"
    assert parent.data.params["budget.trials"] == "12"
    assert runs["trial 1"].data.tags["injerto.reason"] == "rung 33%"
    assert [(m.step, m.value) for m in client.get_metric_history(trial.info.run_id, "accuracy")] == [(1, 0.1), (2, 0.2), (3, 0.3)]


def test_mlflow_goes_on_in_the_runs_that_it_has(tmp_path, mlflow):
    assert run("mlflow", tmp_path, BEFORE, pausing=True) == []
    _, before = mlflow_runs(mlflow)
    assert {name: found.info.status for name, found in before.items()} == {"calm-fig": "SCHEDULED", "trial 0": "SCHEDULED"}
    assert run("mlflow", tmp_path, AFTER) == []
    client, after = mlflow_runs(mlflow)
    assert {name: found.info.run_id for name, found in after.items()} == {name: found.info.run_id for name, found in before.items()}
    assert after["trial 0"].info.status == "FINISHED"
    assert [m.step for m in client.get_metric_history(after["trial 0"].info.run_id, "accuracy")] == [1, 2, 3]


def test_wandb_writes_a_run_for_each_trial_without_a_network(tmp_path, monkeypatch):
    pytest.importorskip("wandb", reason="Weights & Biases is not installed: pip install wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    (tmp_path / "calm-fig").mkdir()
    assert not any("failed" in line for line in run("wandb", tmp_path, SEARCH))
    key = identity(tmp_path / "calm-fig")
    for number in (0, 1):
        (file,) = (tmp_path / "calm-fig" / "wandb").glob(f"offline-run-*-{key}-{number}/run-{key}-{number}.wandb")
        held = file.read_bytes()
        assert b"calm-fig" in held
        assert b"learning_rate" in held
        assert b"accuracy" in held


@pytest.mark.parametrize("name", TRACKERS)
def test_a_package_that_is_not_there(name, monkeypatch):
    monkeypatch.setattr("search.trackers.tracker_thread.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=f"--track {name} needs the package {name}; install it with: pip install {name}"):
        trackers([name], print)


def test_a_folder_of_that_name_is_not_the_package(tmp_path, monkeypatch):
    """`wandb` writes a folder of its own name where it runs."""
    (tmp_path / "tracker_of_tests").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(TRACKERS, "tracker_of_tests", Broken)
    with pytest.raises(ConfigError, match="needs the package tracker_of_tests"):
        trackers(["tracker_of_tests"], print)


def test_a_name_that_is_not_known():
    with pytest.raises(ConfigError, match=r"--track: unknown 'tensorbord'; did you mean 'tensorboard'\?"):
        trackers(["tensorbord"], print)


def test_a_package_that_cannot_be_used(monkeypatch):
    def refuse():
        raise RuntimeError("no such mode\n''")

    monkeypatch.setitem(TRACKERS, "json", refuse)
    with pytest.raises(ConfigError, match=r"--track json: the package json cannot be used .*RuntimeError: no such mode ''"):
        trackers(["json"], print)


class Broken:
    """A tracker whose every call is written down, and whose epochs fail."""

    def __init__(self):
        self.calls = []

    def __getattr__(self, call):
        def told(*arguments):
            self.calls.append(call)
            if call == "epoch":
                raise OSError("no space\x1b[2J\nleft")

        return told


def test_a_tracker_that_raises_is_named_once_and_dropped():
    said, tracker = [], Broken()
    told = Told("mlflow", tracker, said.append)
    with told:
        told.begin("calm-fig", watched_plan(), 1, StopCondition("max", trials=1), 0)
        for event in SEARCH:
            told.event(event)
        told.finishing()
    assert said == ["--track mlflow failed and is left out from here on; the search goes on (OSError: no space [2J left)"]
    assert tracker.calls == ["study", "began", "epoch"]


def test_a_tracker_that_hangs_does_not_hold_the_search_up(monkeypatch):
    monkeypatch.setattr("search.trackers.tracker_thread.CLOSING_SECONDS", 0.1)
    monkeypatch.setattr("search.trackers.tracker_thread.PATIENCE_SECONDS", 0.1)
    gate, said, tracker = threading.Event(), [], Broken()
    tracker.began = lambda *arguments: gate.wait(60)
    told = Told("mlflow", tracker, said.append)
    with told:
        told.begin("calm-fig", watched_plan(), 1, StopCondition("max", trials=1), 0)
        for event in SEARCH * 100:
            told.event(event)
    gate.set()
    assert said == ["waiting for mlflow, 0 s at most"]


def test_nothing_is_told_of_a_search_that_never_began():
    tracker = Broken()
    with Told("mlflow", tracker, StringIO().write):
        pass
    assert tracker.calls == []


def test_a_configuration_as_plain_values():
    values = flat({"a": 1, "b": None, "c": (1, "x"), "d": {"e": True, "f": {"g": 0.5}}})
    assert values == {"a": 1, "b": "None", "c": "1, x", "d.e": True, "d.f.g": 0.5}
