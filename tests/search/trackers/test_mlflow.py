import pytest

from tests.search.trackers.tracked_search import AFTER_PAUSE, BEFORE_PAUSE, SEARCH, track


@pytest.fixture
def mlflow(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow", reason="MLflow is not installed: pip install mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    return mlflow


def runs_by_name(mlflow):
    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name("injerto").experiment_id
    return client, {run.info.run_name: run for run in client.search_runs([experiment])}


def test_mlflow_has_a_run_for_the_study_and_a_nested_run_for_each_trial(tmp_path, mlflow):
    assert track("mlflow", tmp_path, SEARCH) == []
    client, runs = runs_by_name(mlflow)
    assert {name: run.info.status for name, run in runs.items()} == {"calm-fig": "FINISHED", "trial 0": "FINISHED", "trial 1": "KILLED"}
    parent, trial = runs["calm-fig"], runs["trial 0"]
    assert trial.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert trial.data.params["learning_rate"] == "0.0125"
    assert parent.data.params["budget.trials"] == "12"
    assert runs["trial 1"].data.tags["injerto.reason"] == "rung 33%"
    assert [(m.step, m.value) for m in client.get_metric_history(trial.info.run_id, "accuracy")] == [(1, 0.1), (2, 0.2), (3, 0.3)]


def test_mlflow_logs_a_resumed_search_to_the_same_runs(tmp_path, mlflow):
    assert track("mlflow", tmp_path, BEFORE_PAUSE, interrupted=True) == []
    _, before = runs_by_name(mlflow)
    assert {name: run.info.status for name, run in before.items()} == {"calm-fig": "SCHEDULED", "trial 0": "SCHEDULED"}
    assert track("mlflow", tmp_path, AFTER_PAUSE) == []
    client, after = runs_by_name(mlflow)
    assert {name: run.info.run_id for name, run in after.items()} == {name: run.info.run_id for name, run in before.items()}
    assert after["trial 0"].info.status == "FINISHED"
    assert [m.step for m in client.get_metric_history(after["trial 0"].info.run_id, "accuracy")] == [1, 2, 3]
