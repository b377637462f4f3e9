"""One trial in two processes, against the same trial in one."""

import re
import time
from threading import Thread

import numpy as np
import psutil
import pytest
from ray import tune
from ray.util.placement_group import placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from tests.trainables.replicating import CPU, Pair, exchange, listening, normalise, train, train_alone
from trainables.config import DataConfig
from trainables.distributed.world import World
from trainables.errors import ConfigError, DataError
from trainables.training.checkpoint import load_state
from trainables.training.trainer import Trainer
from trainables.worker.trainable import Assignment, ImageTrial, checkpoint_location

EXACT = 1e-6
"""Relative difference of mean losses, which are added up in another order; weights are compared bit for bit."""


@pytest.fixture(scope="module")
def pair(own_cache):
    pair = Pair()
    yield pair
    pair.close()


def together(pair, dataset, trial, **options):
    first, second = pair.run(train, dataset.fingerprint, trial.model_dump(), **options)
    assert not isinstance(first, str), first
    assert not isinstance(second, str), second
    assert first[0] == second[0], "all ranks have the same metrics"
    assert largest_difference(first[1], second[1]) == 0, "and the same weights and statistics"
    return first


def largest_difference(a, b):
    assert a.keys() == b.keys()
    return max(float(np.abs(a[name].astype(float) - b[name].astype(float)).max()) for name in a)


def alike(history, other, tolerance):
    assert history.keys() == other.keys()
    for name, values in history.items():
        assert values == pytest.approx(other[name], rel=tolerance, abs=tolerance), name


@pytest.mark.parametrize(
    ("task", "changes"),
    [
        ("multiclass", {"optimizer": "adamw"}),
        ("multiclass", {"accumulation": 2, "optimizer": "sgd", "clip_norm": 0.1}),
        ("larger", {"weights": "none", "batch_size": 16, "learning_rate": 0.01}),
        ("regression", {"weights": "none", "schedule": "constant", "head_layers": 1}),
        ("multilabel", {"unfrozen_stages": 2, "optimizer": "rmsprop"}),
    ],
    ids=["frozen batch norm", "accumulation", "training batch norm", "regression", "multilabel"],
)
def test_two_processes_are_one_with_twice_the_micro_batches(request, tiny, pair, task, changes):
    """The same images in the same micro-batches: the weights agree to the last bit where only two are added up."""
    dataset = request.getfixturevalue(task)
    trial = tiny(**{"epochs": 2, "dropout": 0.0, "freeze_steps": 0.6, "augmentation_strength": 0.5} | changes)  # thaws in the second epoch
    history, weights = together(pair, dataset, trial)
    expected, its_weights = train_alone(dataset, trial.model_copy(update={"accumulation": 2 * trial.accumulation}))
    alike(history, expected, EXACT if trial.accumulation == 1 else 1e-3)
    assert largest_difference(weights, its_weights) <= (0 if trial.accumulation == 1 else 1e-4)


def test_two_processes_are_one_with_the_same_batches(multiclass, tiny, pair):
    """Batch norm is frozen, so that a batch in two halves is a batch; sums of floats are all that differs."""
    trial = tiny(epochs=2, dropout=0.0, freeze_steps=0.4, optimizer="sgd", learning_rate=0.01)
    history, weights = together(pair, multiclass, trial)
    expected, its_weights = train_alone(multiclass, trial)
    alike(history, expected, 1e-3)
    assert largest_difference(weights, its_weights) < 1e-4


@pytest.mark.slow
def test_synchronised_batch_norm_is_that_of_the_whole_batch(larger, tiny, pair):
    trial = tiny(dropout=0.0, freeze_steps=0.4, weights="none", batch_size=16, optimizer="sgd", learning_rate=0.01)
    expected, its_weights = train_alone(larger, trial)
    history, weights = together(pair, larger, trial, sync_batch_norm=True)
    alike(history, expected, 5e-3)
    assert largest_difference(weights, its_weights) < 5e-3
    apart, _ = together(pair, larger, trial)
    with pytest.raises(AssertionError):
        alike(apart, expected, 5e-3)


@pytest.mark.parametrize("steps", [1, 3])
def test_a_synchronised_norm_is_a_batch_norm_of_all_maps(pair, steps):
    first, second = pair.run(normalise, steps)
    for mine, other, expected in zip(first, second, normalise(World(), steps), strict=True):
        assert np.array_equal(mine, other)
        assert np.allclose(mine, expected, rtol=1e-4, atol=1e-5)


def test_tensors_of_every_type_and_layout_are_exchanged(pair):
    strided, *rest = pair.run(exchange)[0]
    assert pair.run(exchange)[1] == [strided, *rest]
    assert strided == [[0.0, 4.5], [1.5, 6.0], [3.0, 7.5]]
    assert rest[:3] == [[[3.0, 3.0], [3.0, 3.0]], 7, [10.0, 10.0, 10.0]]
    assert rest[3:] == [[[1.0, 1.0], [1.0, 1.0]], 3, [0.0, 0.0, 0.0], [0, 1, 2, 3, 4]]


def test_only_this_machine_can_reach_the_processes_of_a_loopback_address(pair):
    hosts = {host for found in pair.run(listening) for host in found}
    assert hosts
    assert all(host.startswith("127.") for host in hosts)


def test_all_ranks_begin_with_the_network_of_the_first(multiclass, tiny, pair):
    trial = tiny(dropout=0.0)
    plain, noisy = (together(pair, multiclass, trial, noise=name) for name in (None, "body.trunk.features.12.0.weight"))
    assert plain[0] == noisy[0]
    assert largest_difference(plain[1], noisy[1]) == 0


def test_dropout_differs_from_rank_to_rank(multiclass, tiny, pair):
    """With one mask for both halves, dropout would be that of a batch half as large."""
    masked = [trainer_mask(multiclass, tiny(dropout=0.5), World(rank, 2)) for rank in (0, 1)]
    assert not np.array_equal(*masked)
    assert np.array_equal(masked[0], trainer_mask(multiclass, tiny(dropout=0.5), World()))


def trainer_mask(dataset, trial, world):
    """The dropout of a trial's first batch, on ones."""
    import torch

    from trainables.training.trainer import _epoch_seed

    torch.manual_seed(_epoch_seed(trial.seed, 1, world.rank))
    return torch.nn.functional.dropout(torch.ones(4, 16), trial.dropout).numpy()


def test_a_loss_that_is_no_number_is_said_by_all_ranks(multiclass, tiny, pair):
    trial = tiny(optimizer="sgd", learning_rate=10, clip_norm=0, freeze_steps=0, warmup=0, weight_decay=1, epochs=3)
    found = pair.run(train, multiclass.fingerprint, trial.model_dump())
    messages = {re.search(r"NonFiniteError: .*", text)[0] for text in found}
    assert len(messages) == 1


@pytest.mark.parametrize("size", [1, 2, 3, 7])
@pytest.mark.parametrize("count", [1, 2, 5, 14])
def test_shares_are_of_one_size_and_hold_every_row_in_order(size, count):
    rows = np.arange(10, 10 + count)
    shares = [World(rank, size).share(rows) for rank in range(size)]
    assert len({len(share) for share in shares}) == 1
    assert np.concatenate(shares)[:count].tolist() == rows.tolist()


@pytest.mark.parametrize(("replicas", "accumulation", "instead"), [(3, 1, 6), (2, 4, 8), (8, 2, 16)])
def test_a_batch_that_cannot_be_divided_is_refused(larger, tiny, replicas, accumulation, instead):
    trial = tiny(batch_size=12 if accumulation == 4 else 8, accumulation=accumulation)
    message = (
        f"batch_size must be a multiple of accumulation × replicas \\({accumulation} × {replicas}\\) but got {trial.batch_size}; "
        f"take {instead}, say, or another number of GPUs for a trial"
    )
    with pytest.raises(ConfigError, match=message):
        Trainer(larger, trial, device=CPU, world=World(1, replicas))


# Through Ray


@pytest.fixture
def bundles(ray_session):
    """A placement group of two bundles; at the end no replica is left in it."""
    group = placement_group([{"CPU": 1}] * 2)
    ray_session.get(group.ready(), timeout=60)
    yield group
    remove_placement_group(group)
    none_left()


def replicas():
    return [p for p in psutil.Process().children(recursive=True) if p.name().startswith("ray::Replica")]


def none_left():
    deadline = time.monotonic() + 20
    while replicas():
        assert time.monotonic() < deadline, f"replicas are left: {replicas()}"
        time.sleep(0.1)


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


def is_that_of_one_process(dataset, trial, report, config):
    """A trial's history and its state on disk are those of one process with twice the micro-batches."""
    expected, weights = train_alone(dataset, trial.model_copy(update={"accumulation": 2}), metric="loss")
    alike({name: report["history"][name] for name in expected}, expected, EXACT)
    state = load_state(checkpoint_location(Assignment.model_validate(config["assignment"])))
    assert state["epoch"] == trial.epochs
    network = {name: tensor.numpy() for name, tensor in state["network"].items()}
    assert largest_difference(network, {name: weights[name] for name in network}) == 0


@pytest.mark.slow
def test_a_replica_that_is_killed_costs_the_epoch_and_nothing_else(ray_session, bundles, multiclass, tiny, tmp_path):
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
    assert [report["epoch"] for report in reports] == [1, 2, 3], "what may not have been heard is reported again"
    is_that_of_one_process(multiclass, trial, reports[-1], config)

    # The same processes have the next trial, whatever became of the last.
    before = [process.pid for process in replicas()]
    wild = tiny(optimizer="sgd", learning_rate=10, clip_norm=0, freeze_steps=0, warmup=0, weight_decay=1, epochs=5)
    odd = trial.model_copy(update={"batch_size": 7})
    seen = []
    for number, (other, changes) in enumerate([(wild, {}), (odd, {}), (trial, {"fingerprint": "0" * 16})], 1):
        assert ray_session.get(actor.reset_config.remote(assigned(multiclass, other, tmp_path, number, **changes)))
        while not (report := ray_session.get(actor.step.remote()))["done"]:
            pass
        seen.append(report["failure"]["kind"])
    assert seen == ["non-finite", "configuration", "data"]
    config = assigned(multiclass, trial, tmp_path, 4)
    assert ray_session.get(actor.reset_config.remote(config))
    reports = [ray_session.get(actor.step.remote()) for _ in range(3)]
    is_that_of_one_process(multiclass, trial, reports[-1], config)
    assert [process.pid for process in replicas()] == before
    rates, seconds = (reports[-1]["history"][name][0] for name in ("images_per_second", "seconds_training"))
    assert round(rates * seconds) % trial.batch_size == 0
    assert rates * seconds >= 20 * trial.batch_size, "the images of all ranks are counted"

    ray_session.get(actor.reset_config.remote(assigned(multiclass, trial, tmp_path, 5)))
    ray_session.get(actor.step.remote())
    actor.step.remote()
    ray_session.kill(actor)  # in mid-epoch: a replica does not outlive its trial
    none_left()


def test_replicas_need_as_many_bundles(ray_session, multiclass, tiny, tmp_path):
    group = placement_group([{"CPU": 1}])
    actor = start(ray_session, group, assigned(multiclass, tiny(), tmp_path))
    failure = ray_session.get(actor.step.remote())["failure"]
    assert failure["kind"] == "configuration"
    assert "needs a placement group of 2 bundles but has 1" in failure["message"]
    remove_placement_group(group)


def test_what_a_replica_says_comes_before_the_broken_connection(ray_session):
    from trainables.worker.replicas import ReplicaError, _cause

    @ray_session.remote(num_cpus=0)
    def fail(kind, words):
        raise kind(words)

    broken = RuntimeError("Connection closed by peer")
    tasks = [fail.remote(RuntimeError, "Connection closed as well"), fail.remote(DataError, "no such image")]
    assert repr(_cause(tasks, broken)) == repr(DataError("no such image"))
    cause = _cause(tasks[:1], broken)
    assert type(cause) is ReplicaError
    assert str(cause) == "the exchange with the replicas broke: Connection closed as well; Connection closed by peer"


@pytest.mark.slow
def test_under_ray_tune_trials_go_on_without_a_replica_that_was_killed(ray_session, multiclass, tiny, tmp_path):
    trial = tiny(epochs=4, dropout=0.0, freeze_steps=0.4)
    configs = [assigned(multiclass, trial, tmp_path / "trials", number) for number in (0, 1)]
    killed = []

    def kill_one():
        while not (tmp_path / "trials" / "00000" / "last.pt").exists():
            time.sleep(0.05)
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
        is_that_of_one_process(multiclass, trial, result.metrics, config)
    none_left()
