"""How a search of simulated trials ends, resumes and gives up: failing trials, spent budgets, crashes, a second driver."""

import json
import shutil
import threading

import pytest

from search.driver.launch import resume
from search.record.store import load_study, open_storage
from tests.search.simulated_search import EVERY_ATTEMPT, run_simulated_search
from tests.search.watchers import ActOnce, InterruptAfter
from trainables.config import TrialConfig
from trainables.errors import ConfigError, StorageError
from trainables.worker.simulated_trial import SimulatedTrial, Simulation, curve


def storage(root):
    return f"sqlite:///{root}/studies.db"


@pytest.mark.parametrize(
    ("kind", "words"),
    [("non-finite", "non-finite: "), pytest.param("exception", "other: RuntimeError: a simulated exception", marks=pytest.mark.slow)],
)
def test_a_search_ends_when_its_first_three_trials_fail_alike(kind, words, ray_session, tmp_path):
    record = run_simulated_search(
        tmp_path, Simulation(rates={kind: 1}, attempts=EVERY_ATTEMPT), trials=40, epochs=1, max_concurrent_trials=1
    )
    assert record.state == "failed"
    assert record.why.startswith(f"the first trials all failed alike ({words}")
    assert record.counts["failed"] == len(record.trials) == 3
    assert record.best is None
    assert not (record.folder / "best.yaml").exists()


@pytest.mark.slow
def test_a_configuration_that_failed_twice_alike_is_not_tried_again(ray_session, tmp_path):
    """In a space of one point trial 0 fails twice, so that no later trial runs."""
    fixed = tuple(f"space.{setting}" for setting in ONE_POINT)
    replay = Simulation(rates={"exception": 1}, attempts=EVERY_ATTEMPT)
    record = run_simulated_search(tmp_path, replay, trials=4, epochs=1, settings=fixed, max_concurrent_trials=1, name="one")
    kinds = [trial.error["kind"] for trial in record.trials]
    assert kinds == ["other", "not tried", "not tried", "not tried"]
    assert record.trials[1].stop_reason == "not tried: this configuration has failed twice the same way (other)"
    assert len(record.trials[0].attributes["retries"]) == 2
    assert [trial.epochs_done for trial in record.trials] == [0] * 4


ONE_POINT = (
    "backbone=mobilenet_v3_small",
    "learning_rate=0.001",
    "unfrozen_stages=0",
    "batch_size=16",
    "head_layers=0",
    "initializer=orthogonal",
    "augmentation_strength=0",
)


def test_trials_without_improvement_end_a_search(ray_session, tmp_path):
    record = run_simulated_search(tmp_path, trials=200, max_concurrent_trials=1, no_improvement=4)
    assert record.why == "4 trials in a row brought no improvement"
    values = [trial.value for trial in record.trials]
    assert record.best.number == len(values) - 5
    assert max(values) == record.best.value


def test_a_relative_storage_url_is_resolved_before_the_driver_changes_folder(ray_session, tmp_path, monkeypatch):
    """The driver changes into the output folder, and checks every few seconds that the database file exists."""
    monkeypatch.chdir(tmp_path)
    record = run_simulated_search(tmp_path, trials=1, storage="sqlite:///here.db", name="calm-fig")
    assert record.state == "finished"
    assert (tmp_path / "here.db").exists()
    assert resume("calm-fig", "sqlite:///here.db", trainable=SimulatedTrial, add_trials=1).counts["finished"] == 2


def test_a_gpu_hours_budget_needs_gpus(ray_session, tmp_path):
    with pytest.raises(ConfigError, match="trials here have no GPU"):
        run_simulated_search(tmp_path, trials=2, gpu_hours=1.0)


def test_resume_applies_a_recorded_rung_verdict(ray_session, tmp_path):
    """The driver was killed after it recorded a rung's verdict and before it ended the trial."""
    record = run_simulated_search(tmp_path, trials=3, name="calm-fig", max_concurrent_trials=1)
    assert record.counts["finished"] == 3
    study = load_study(open_storage(storage(tmp_path)), "calm-fig")
    left = study.ask()
    left.set_user_attr("config", dict(record.trials[1].config))
    left.set_user_attr("history", {"objective": [0.1]})
    left.set_user_attr("verdict", "rung 11% of its epochs: 0.1 < cutoff 0.2")
    left.report(0.1, 200)
    resumed = resume("calm-fig", storage(tmp_path), trainable=SimulatedTrial, add_trials=2)
    ended = resumed.trials[3]
    assert (ended.state, ended.stop_reason, ended.value) == ("stopped", "rung 11% of its epochs: 0.1 < cutoff 0.2", 0.1)
    assert [trial.state for trial in resumed.trials] == ["finished"] * 3 + ["stopped", "finished"]


def test_resume_records_an_epoch_that_was_saved_but_not_recorded(ray_session, tmp_path):
    record = run_simulated_search(tmp_path, trials=1, epochs=6, name="calm-fig", watcher=InterruptAfter(1))
    assert (record.trials[0].state, record.trials[0].epochs_done) == ("paused", 2)
    (file,) = record.folder.glob("trials/00000/state-*.json")
    state = json.loads(file.read_text())
    values = curve(TrialConfig.model_validate(record.trials[0].config))
    saved = {name: column * 2 for name, column in state["history"].items()} | {"objective": values[:4]}
    file.with_name("state-000004-00000000.json").write_text(json.dumps(state | {"epoch": 4, "history": saved}))
    watching = ActOnce("none", None)
    resumed = resume("calm-fig", storage(tmp_path), watching, trainable=SimulatedTrial)
    assert [event.epoch for event in watching.events if event.kind == "epoch"] == [4, 5, 6]
    assert list(resumed.trials[0].intermediate.values()) == values
    assert resumed.trials[0].state == "finished"


def test_resume_trains_again_after_a_damaged_state_and_records_why(ray_session, tmp_path):
    record = run_simulated_search(tmp_path, trials=1, epochs=6, name="calm-fig", watcher=InterruptAfter(1))
    (file,) = record.folder.glob("trials/00000/state-000002-*.json")
    file.write_bytes(file.read_bytes()[:20])
    trial = resume("calm-fig", storage(tmp_path), trainable=SimulatedTrial).trials[0]
    (restart,) = trial.attributes["restarts"]
    assert restart.startswith("the trial starts from the beginning, although 2 epochs are recorded: ")
    assert (trial.state, list(trial.intermediate.values())) == ("finished", curve(TrialConfig.model_validate(trial.config)))
    assert [path.name[:12] for path in file.parent.glob("state-*")] == ["state-000006"]


def test_resume_stops_a_paused_trial_if_the_budget_is_spent(ray_session, tmp_path):
    paused = run_simulated_search(tmp_path, trials=3, name="calm-fig", watcher=InterruptAfter(7), time_budget="1h", max_concurrent_trials=1)
    assert (paused.counts["finished"], paused.counts["paused"]) == (1, 1)
    study = load_study(open_storage(storage(tmp_path)), "calm-fig")
    study.set_user_attr("status", study.user_attrs["status"] | {"used_seconds": 4000.0})
    record = resume("calm-fig", storage(tmp_path), trainable=SimulatedTrial)
    assert (record.state, record.why) == ("finished", "the time budget of 3600 s is over")
    assert [trial.state for trial in record.trials] == ["finished", "stopped"]
    assert record.trials[1].stop_reason == "budget: the time budget of 3600 s is over"
    assert record.trials[1].value == record.trials[1].history["objective"][-1]


def crash(root, record, *, trials, keep):
    """Rewrite a finished study's storage as a crash leaves it: trial `trials` runs with the attributes in `keep`, later ones are gone."""
    import sqlalchemy

    database = sqlalchemy.create_engine(storage(root))
    with database.begin() as connection:
        later = f"(SELECT trial_id FROM trials WHERE number > {trials})"
        for table in ("trial_params", "trial_values", "trial_intermediate_values", "trial_user_attributes", "trial_system_attributes"):
            connection.execute(sqlalchemy.text(f"DELETE FROM {table} WHERE trial_id IN {later}"))
        connection.execute(sqlalchemy.text(f"DELETE FROM trials WHERE number > {trials}"))
        this = f"(SELECT trial_id FROM trials WHERE number = {trials})"
        connection.execute(sqlalchemy.text(f"UPDATE trials SET state = 'RUNNING', datetime_complete = NULL WHERE number = {trials}"))
        connection.execute(sqlalchemy.text(f"DELETE FROM trial_values WHERE trial_id IN {this}"))
        names = ", ".join(f"'{name}'" for name in keep)
        connection.execute(sqlalchemy.text(f"DELETE FROM trial_user_attributes WHERE trial_id IN {this} AND key NOT IN ({names})"))
    database.dispose()
    for folder in record.folder.glob("trials/*"):
        if int(folder.name) > trials:
            shutil.rmtree(root / "out" / record.name / "trials" / folder.name, ignore_errors=True)
    study = load_study(open_storage(storage(root)), record.name)
    study.set_user_attr("status", study.user_attrs["status"] | {"state": "interrupted"})


@pytest.mark.slow
@pytest.mark.parametrize("keep", [("config", "history", "facts"), ("config", "history", "facts", "verdict")])
def test_a_crash_before_a_trial_ends_in_optuna_changes_no_result(keep, ray_session, tmp_path):
    """The trial's history is in its artifact already, and a rung may have decided: states, values and reasons stay the same."""
    root = tmp_path / "undisturbed"
    root.mkdir()
    options = {"trials": 6, "epochs": 9, "scheduler": "asha", "name": "calm-fig", "max_concurrent_trials": 1}
    record = run_simulated_search(root, **options)
    ended = next(trial.number for trial in record.trials if trial.state == "stopped")
    for number in (0, 3, ended):
        copy = tmp_path / f"crash{number}"
        copy.mkdir()
        run_simulated_search(copy, **options)
        crash(copy, record, trials=number, keep=keep)
        resumed = resume("calm-fig", storage(copy), trainable=SimulatedTrial)
        assert [outcome_of(trial) for trial in resumed.trials] == [outcome_of(trial) for trial in record.trials]
        assert set(resumed.test) == {"winner", "default_recipe"}


def outcome_of(trial):
    return trial.number, trial.state, trial.value, trial.stop_reason, trial.config, trial.history["objective"], trial.epochs_done


@pytest.mark.slow
def test_a_trial_paused_at_a_rung_is_judged_by_it_after_resume(ray_session, tmp_path):
    root, paused = tmp_path / "undisturbed", tmp_path / "paused"
    root.mkdir(), paused.mkdir()
    options = {"trials": 6, "epochs": 9, "scheduler": "asha", "name": "calm-fig", "max_concurrent_trials": 1}
    record = run_simulated_search(root, **options)
    ended = next(trial for trial in record.trials if trial.state == "stopped")
    before = sum(trial.epochs_done for trial in record.trials[: ended.number])
    run_simulated_search(paused, **options, watcher=InterruptAfter(before + ended.epochs_done - 1))
    resumed = resume("calm-fig", storage(paused), trainable=SimulatedTrial)
    assert [outcome_of(trial) for trial in resumed.trials] == [outcome_of(trial) for trial in record.trials]


def test_a_driver_stops_when_another_has_taken_its_study_over(ray_session, tmp_path, monkeypatch):
    monkeypatch.setattr("search.record.lease.HEARTBEAT_SECONDS", 0.1)

    def take_over():
        study = load_study(open_storage(storage(tmp_path)), "calm-fig")
        study.set_user_attr(
            "status", study.user_attrs["status"] | {"driver": "another", "host": "another.host", "since": "2026-01-01T00:00:00"}
        )

    with pytest.raises(StorageError, match=r"the driver on another\.host .* took the study over"):
        run_simulated_search(tmp_path, Simulation(seconds=0.5), trials=20, name="calm-fig", watcher=ActOnce("epoch", take_over))
    study = load_study(open_storage(storage(tmp_path)), "calm-fig")
    assert study.user_attrs["status"]["host"] == "another.host"


def test_an_interrupted_search_does_not_wait_for_trials_without_a_worker(ray_session, tmp_path, monkeypatch):
    """Another actor holds all CPUs, so that the first trial never starts."""
    import search.driver.bridge

    monkeypatch.setattr(search.driver.bridge, "STRANDED_SECONDS", 0.5)

    @ray_session.remote(num_cpus=2)
    class Holder:
        def ready(self):
            return True

    class InterruptSoon(InterruptAfter):
        def event(self, event):
            if event.kind == "began":
                threading.Timer(0.2, self.interrupt).start()

    holder = Holder.remote()
    ray_session.get(holder.ready.remote())
    try:
        record = run_simulated_search(tmp_path, trials=1, epochs=2, max_concurrent_trials=1, watcher=InterruptSoon(1), name="calm-fig")
    finally:
        ray_session.kill(holder)
    assert (record.state, record.counts["paused"]) == ("interrupted", 1)
    assert resume("calm-fig", storage(tmp_path), trainable=SimulatedTrial).state == "finished"


def test_with_a_time_budget_only_epochs_that_can_finish_are_proposed(ray_session, tmp_path):
    settings = ("space.epochs={low: 2, high: 400}", "space.unfrozen_stages=2", "resources.max_concurrent_trials=1")
    run_simulated_search(tmp_path, Simulation(seconds=2), trials=2, time_budget="30s", name="calm-fig", settings=settings)
    first, second = load_study(open_storage(storage(tmp_path)), "calm-fig").get_trials()
    assert first.distributions["epochs"].high == 400
    seconds_per_epoch = first.user_attrs["facts"]["seconds_total"] / first.params["epochs"]
    assert 2 <= second.distributions["epochs"].high <= 0.9 * 30 / seconds_per_epoch
    assert second.distributions["epochs"].high < 400
