"""A trial in two processes that Ray starts, against the same trial in one process."""

import time
from threading import Thread

import psutil
import pytest
from ray import tune
from ray.util.placement_group import placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from tests.trainables.replicating import EXACT, assert_same_history, largest_difference, train_alone
from tests.waiting import wait_until
from trainables.config import DataConfig
from trainables.errors import DataError
from trainables.storage.saved_states import SavedStates
from trainables.training.checkpoint import load_state
from trainables.worker.assignment import Assignment
from trainables.worker.trainable import ImageTrial


@pytest.fixture
def bundles(ray_session):
    """A placement group of two bundles; afterwards no replica may be left in it."""
    group = placement_group([{"CPU": 1}] * 2)
    ray_session.get(group.ready(), timeout=60)
    yield group
    remove_placement_group(group)
    assert_no_replicas_left()


def replicas():
    return [p for p in psutil.Process().children(recursive=True) if p.name().startswith("ray::Replica")]


def assert_no_replicas_left():
    wait_until(lambda: not replicas(), 20, lambda: f"replicas to end: {replicas()}")


def assigned(dataset, trial, folder, number=0, **changes):
    folder.mkdir(exist_ok=True)
    assignment = Assignment(
        number=number,
        trial=trial,
        data=DataConfig(),
        task=dataset.task,
        fingerprint=dataset.fingerprint,
        metric="loss",
        folder=str(folder / f"{number:05d}"),
        replicas=2,
    ).model_copy(update=changes)
    return {"assignment": assignment.model_dump(mode="json")}


def start(ray, group, config):
    place = PlacementGroupSchedulingStrategy(placement_group=group, placement_group_bundle_index=0)
    return ray.remote(ImageTrial).options(num_cpus=1, scheduling_strategy=place).remote(config)


def assert_equals_one_process(dataset, trial, report, config):
    """A trial's history and its saved state equal those of one process with twice the micro-batches."""
    expected, weights = train_alone(dataset, trial.model_copy(update={"accumulation": 2}), metric="loss")
    assert_same_history({name: report["history"][name] for name in expected}, expected, EXACT)
    state = SavedStates(config["assignment"]["folder"]).load(load_state)
    assert state["epoch"] == trial.epochs
    network = {name: tensor.numpy() for name, tensor in state["network"].items()}
    assert largest_difference(network, {name: weights[name] for name in network}) == 0


@pytest.mark.slow
def test_a_killed_replica_costs_one_epoch_and_later_trials_reuse_the_processes(ray_session, bundles, multiclass, tiny, tmp_path):
    trial = tiny(epochs=3, dropout=0.0, freeze_steps=0.4)
    config = assigned(multiclass, trial, tmp_path)
    actor = start(ray_session, bundles, config)
    report = ray_session.get(actor.step.remote())
    assert (report["epoch"], report["facts"]["replicas"], len(replicas())) == (1, 2, 1)
    running = actor.step.remote()
    replicas()[0].kill()
    started = time.monotonic()
    with pytest.raises(RuntimeError, match=r"ReplicaError: the exchange with the replicas broke: a replica is lost \(ActorDiedError\)"):
        ray_session.get(running)
    assert time.monotonic() - started < 30
    reports = [ray_session.get(actor.step.remote()) for _ in range(3)]
    assert [report["epoch"] for report in reports] == [1, 2, 3], "an epoch that may not have been reported is reported again"
    assert_equals_one_process(multiclass, trial, reports[-1], config)

    # The same processes train the next trial, even if the last one failed.
    before = [process.pid for process in replicas()]
    diverging = tiny(optimizer="sgd", learning_rate=10, clip_norm=0, freeze_steps=0, warmup=0, weight_decay=1, epochs=5)
    indivisible = trial.model_copy(update={"batch_size": 7})
    kinds = []
    for number, (other, changes) in enumerate([(diverging, {}), (indivisible, {}), (trial, {"fingerprint": "0" * 16})], 1):
        assert ray_session.get(actor.reset_config.remote(assigned(multiclass, other, tmp_path, number, **changes)))
        while not (report := ray_session.get(actor.step.remote()))["done"]:
            pass
        kinds.append(report["failure"]["kind"])
    assert kinds == ["non-finite", "configuration", "data"]
    config = assigned(multiclass, trial, tmp_path, 4)
    assert ray_session.get(actor.reset_config.remote(config))
    reports = [ray_session.get(actor.step.remote()) for _ in range(3)]
    assert_equals_one_process(multiclass, trial, reports[-1], config)
    assert [process.pid for process in replicas()] == before
    rates, seconds = (reports[-1]["history"][name][0] for name in ("images_per_second", "seconds_training"))
    assert round(rates * seconds) % trial.batch_size == 0
    assert rates * seconds >= 20 * trial.batch_size, "the images of all ranks are counted"

    ray_session.get(actor.reset_config.remote(assigned(multiclass, trial, tmp_path, 5)))
    ray_session.get(actor.step.remote())
    actor.step.remote()
    ray_session.kill(actor)  # in mid-epoch: a replica ends with its trial
    assert_no_replicas_left()


def test_replicas_need_one_bundle_each(ray_session, multiclass, tiny, tmp_path):
    group = placement_group([{"CPU": 1}])
    actor = start(ray_session, group, assigned(multiclass, tiny(), tmp_path))
    failure = ray_session.get(actor.step.remote())["failure"]
    assert failure["kind"] == "configuration"
    assert "needs a placement group of 2 bundles but has 1" in failure["message"]
    remove_placement_group(group)


def test_a_replicas_own_error_is_raised_instead_of_the_broken_connection(ray_session):
    from trainables.worker.replicas import ReplicaError, _cause

    @ray_session.remote(num_cpus=0)
    def fail(kind, message):
        raise kind(message)

    broken = RuntimeError("Connection closed by peer")
    tasks = [fail.remote(RuntimeError, "Connection closed as well"), fail.remote(DataError, "no such image")]
    assert repr(_cause(tasks, broken)) == repr(DataError("no such image"))
    cause = _cause(tasks[:1], broken)
    assert type(cause) is ReplicaError
    assert str(cause) == "the exchange with the replicas broke: Connection closed as well; Connection closed by peer"


@pytest.mark.slow
def test_ray_tune_restarts_a_trial_whose_replica_was_killed(ray_session, multiclass, tiny, tmp_path):
    trial = tiny(epochs=4, dropout=0.0, freeze_steps=0.4)
    configs = [assigned(multiclass, trial, tmp_path / "trials", number) for number in (0, 1)]
    killed = []

    def kill_one():
        wait_until(SavedStates(str(tmp_path / "trials" / "00000")).names, 120, "the first trial's first epoch")
        killed.extend(replicas())
        for process in killed:
            process.kill()

    killer = Thread(target=kill_one, daemon=True)
    killer.start()
    results = tune.Tuner(
        tune.with_resources(ImageTrial, tune.PlacementGroupFactory([{"CPU": 1}] * 2)),
        param_space={"assignment": tune.grid_search([config["assignment"] for config in configs])},
        tune_config=tune.TuneConfig(reuse_actors=True, max_concurrent_trials=1),
        run_config=tune.RunConfig(name="ray", storage_path=str(tmp_path), failure_config=tune.FailureConfig(max_failures=2), verbose=0),
    ).fit()
    killer.join(10)
    assert len(killed) == 1
    assert not results.errors
    for result, config in zip(results, configs, strict=True):
        assert_equals_one_process(multiclass, trial, result.metrics, config)
    assert_no_replicas_left()
