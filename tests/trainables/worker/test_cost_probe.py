import math
import time

import numpy as np
import pytest

import trainables.training.trainer
from trainables.config import DataConfig
from trainables.storage.cache import cache_root
from trainables.training.checkpoint import save_state
from trainables.training.trainer import Trainer
from trainables.worker.assignment import Assignment
from trainables.worker.cost_probe import CostProbe, measure_cost

pytestmark = pytest.mark.usefixtures("short_epochs")
TIMES = ("seconds_to_build", "seconds_to_save")


@pytest.fixture
def assignment(larger, tiny, tmp_path):
    """Returns an assignment over the larger image set, as JSON, with the given changes to its trial."""

    def build(**changes):
        trial = tiny(**changes)
        data = DataConfig(source="not read again")
        assignment = Assignment(
            number=7,
            trial=trial,
            data=data,
            task=larger.task,
            fingerprint=larger.fingerprint,
            metric="accuracy",
            folder=str(tmp_path / "does" / "not" / "exist"),
        )
        return assignment.model_dump(mode="json")

    return build


def files(folder):
    return sorted(str(path) for path in folder.rglob("*"))


def test_the_probe_measures_time_size_and_memory_and_leaves_no_file(assignment, larger, tiny, tmp_path):
    job = assignment(epochs=4)
    before, started = files(tmp_path), time.perf_counter()
    cost = CostProbe().measure(job, 2, math.inf)
    spent = time.perf_counter() - started
    assert files(tmp_path) == before
    assert len(cost["seconds_per_epoch"]) == 2
    assert cost["share"] == 1
    assert all(0 < cost[name] < spent for name in TIMES)
    assert 0 < sum(cost["seconds_per_epoch"]) < spent
    trainer = Trainer(larger, tiny(epochs=4), metric="accuracy")
    assert cost["steps_per_epoch"] == trainer.steps_per_epoch
    assert cost["weights_bytes"] == sum(tensor.nbytes for tensor in trainer.network.state_dict().values())
    assert 0 < cost["memory_bytes"] < cost["machine_bytes"]


def test_the_measured_state_is_as_large_as_that_of_a_trial(assignment, larger, tiny, tmp_path):
    trainer = Trainer(larger, tiny(epochs=4, freeze_steps=0.0), metric="accuracy")
    trainer.run_epoch()
    save_state(tmp_path / "last.pt", {**trainer.state(), "seconds": 0.0})
    assert measure_cost(assignment(epochs=4))["state_bytes"] == pytest.approx((tmp_path / "last.pt").stat().st_size, rel=0.02)


def test_a_part_of_an_epoch_is_scaled_up_to_the_whole(assignment, monkeypatch):
    """With times computed from the number of images, a part of an epoch gives the same estimate as a whole one."""
    job = assignment(epochs=4)
    whole = measure_with_computed_times(monkeypatch, job, math.inf)
    part = measure_with_computed_times(monkeypatch, job, 0.0)
    assert part["images"] < whole["images"]
    assert part["share"] == 0
    assert part["seconds_per_epoch"] == pytest.approx(whole["seconds_per_epoch"], rel=0.35)


def measure_with_computed_times(monkeypatch, job, seconds):
    """Measure with epochs that take 1 ms for each trained and 0.5 ms for each evaluated image."""
    images = []

    def run_epoch(trainer):
        trained = trainer.passes * (len(trainer.dataset.rows["train"]) // trainer.trial.batch_size) * trainer.trial.batch_size
        evaluated = len(trainer.dataset.rows["validation"]) + min(len(trainer.dataset.rows["train"]), 1024)
        images.append(trained + evaluated)
        return {"seconds_training": 0.001 * trained, "seconds_evaluation": 0.0005 * evaluated}

    monkeypatch.setattr(trainables.training.trainer.Trainer, "run_epoch", run_epoch)
    return measure_cost(job, 1, seconds) | {"images": images[-1]}


def test_activations_that_trials_share_are_measured_apart_and_not_stored_on_the_node(assignment):
    changes = {"epochs": 4, "backbone": "efficientnet_lite0", "weights": "imagenet", "head_epochs": 2, "unfrozen_stages": 1}
    before = files(cache_root() / "features")
    alone = measure_cost(assignment(**changes, views=0), 2)
    shared = measure_cost(assignment(**changes, views=2), 2)
    assert alone["shared_seconds"] == 0
    assert shared["shared_seconds"] > 0
    assert files(cache_root() / "features") == before


def test_the_trainer_sees_all_images_again_after_a_part(assignment, larger, monkeypatch):
    datasets = []
    state = trainables.training.trainer.Trainer.state
    monkeypatch.setattr(trainables.training.trainer.Trainer, "state", lambda trainer: datasets.append(trainer.dataset) or state(trainer))
    measure_cost(assignment(epochs=2), 1, 0.0)
    assert all(np.array_equal(datasets[0].rows[name], larger.rows[name]) for name in larger.rows)


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"batch_size": 64}, "configuration"),
        ({"learning_rate": 10.0, "optimizer": "sgd", "clip_norm": 0.0, "warmup": 0.0, "weights": "none"}, "non-finite"),
    ],
)
def test_a_failing_configuration_gives_its_kind_and_message(assignment, changes, kind):
    cost = measure_cost(assignment(**changes), 5)
    assert set(cost) == {"failure"}
    assert cost["failure"]["kind"] == kind
    assert cost["failure"]["message"]


def test_missing_images_are_a_failure_of_kind_data(assignment):
    job = assignment() | {"fingerprint": "0" * 64, "data": {"source": "/nowhere"}}
    assert measure_cost(job)["failure"]["kind"] == "data"
