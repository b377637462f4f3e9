import math
import time

import numpy as np
import pytest

import trainables.training.trainer
from trainables.config import DataConfig
from trainables.training.checkpoint import save_state
from trainables.training.trainer import Trainer
from trainables.worker.cost_probe import Meter, measure
from trainables.worker.trainable import Assignment

TIMES = ("seconds_to_build", "seconds_to_save")


@pytest.fixture
def assignment(larger, tiny, tmp_path):
    """An assignment over the larger image set, as JSON."""

    def of(**changes):
        trial = tiny(**changes)
        data = DataConfig(source="not read again")
        made = Assignment(
            number=7,
            trial=trial,
            data=data,
            task=larger.task,
            fingerprint=larger.fingerprint,
            metric="accuracy",
            folder=str(tmp_path / "made" / "by" / "nobody"),
        )
        return made.model_dump(mode="json")

    return of


def files(folder):
    return sorted(str(path) for path in folder.rglob("*"))


def test_what_a_configuration_takes(assignment, larger, tiny, tmp_path):
    job = assignment(epochs=4)
    before, started = files(tmp_path), time.perf_counter()
    found = Meter().measure(job, 2, math.inf)
    spent = time.perf_counter() - started
    assert files(tmp_path) == before
    assert len(found["seconds_per_epoch"]) == 2
    assert found["share"] == 1
    assert all(0 < found[name] < spent for name in TIMES)
    assert 0 < sum(found["seconds_per_epoch"]) < spent
    trainer = Trainer(larger, tiny(epochs=4), metric="accuracy")
    assert found["steps_per_epoch"] == trainer.steps_per_epoch
    assert found["weights_bytes"] == sum(tensor.nbytes for tensor in trainer.network.state_dict().values())
    assert 0 < found["memory_bytes"] < found["machine_bytes"]


def test_the_state_is_as_large_as_that_of_a_trial(assignment, larger, tiny, tmp_path):
    trainer = Trainer(larger, tiny(epochs=4, freeze_steps=0.0), metric="accuracy")
    trainer.run_epoch()
    save_state(tmp_path / "last.pt", {**trainer.state(), "seconds": 0.0})
    assert measure(assignment(epochs=4))["state_bytes"] == pytest.approx((tmp_path / "last.pt").stat().st_size, rel=0.02)


def test_a_part_of_an_epoch_is_scaled_up_to_the_whole(assignment, monkeypatch):
    """Under a clock that moves by what is done, a part says the same of the whole as the whole itself."""
    job = assignment(epochs=4)
    whole = counted(monkeypatch, job, math.inf)
    part = counted(monkeypatch, job, 0.0)
    assert part["images"] < whole["images"]
    assert part["share"] == 0
    assert part["seconds_per_epoch"] == pytest.approx(whole["seconds_per_epoch"], rel=0.35)


def counted(monkeypatch, job, seconds):
    """Measure with epochs of 1 ms an image trained and 0.5 ms an image evaluated."""
    images = []

    def run_epoch(trainer):
        trained = trainer.passes * (len(trainer.dataset.rows["train"]) // trainer.trial.batch_size) * trainer.trial.batch_size
        evaluated = len(trainer.dataset.rows["validation"]) + min(len(trainer.dataset.rows["train"]), 1024)
        images.append(trained + evaluated)
        return {"seconds_training": 0.001 * trained, "seconds_evaluation": 0.0005 * evaluated}

    monkeypatch.setattr(trainables.training.trainer.Trainer, "run_epoch", run_epoch)
    return measure(job, 1, seconds) | {"images": images[-1]}


def test_the_trainer_sees_all_images_again_after_a_part(assignment, larger, monkeypatch):
    seen = []
    save = trainables.training.trainer.Trainer.state
    monkeypatch.setattr(trainables.training.trainer.Trainer, "state", lambda trainer: seen.append(trainer.dataset) or save(trainer))
    measure(assignment(epochs=2), 1, 0.0)
    assert all(np.array_equal(seen[0].rows[name], larger.rows[name]) for name in larger.rows)


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"batch_size": 64}, "configuration"),
        ({"learning_rate": 10.0, "optimizer": "sgd", "clip_norm": 0.0, "warmup": 0.0, "weights": "none"}, "non-finite"),
    ],
)
def test_a_configuration_that_fails_says_so(assignment, changes, kind):
    found = measure(assignment(**changes), 5)
    assert set(found) == {"failure"}
    assert found["failure"]["kind"] == kind
    assert found["failure"]["message"]


def test_images_that_are_gone_are_a_failure_of_the_data(assignment):
    job = assignment() | {"fingerprint": "0" * 64, "data": {"source": "/nowhere"}}
    assert measure(job)["failure"]["kind"] == "data"
