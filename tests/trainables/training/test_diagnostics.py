import base64
import io
import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from trainables.training.diagnostics import GROUPS, MAX_POINTS, decode_predictions, diagnose, interval, worst_images
from trainables.training.tasks import TASKS, TargetScale
from trainables.training.trainer import Trainer

pytestmark = pytest.mark.usefixtures("short_epochs")
CPU = torch.device("cpu")
EXPECTED = {
    "multiclass": {"confusion", "reliability"},
    "binary": {"confusion", "reliability"},
    "multilabel": {"precision", "reliability"},
    "regression": {"scatter"},
}


@pytest.mark.parametrize("task", EXPECTED)
def test_a_trainer_gives_the_diagnostics_of_its_task(task, request, tiny):
    trainer = Trainer(request.getfixturevalue(task), tiny(epochs=2), device=CPU)
    assert trainer.diagnostics() is None
    trainer.run_epoch()
    first = trainer.diagnostics()
    assert set(first) == EXPECTED[task] | {"images", "classes", "epoch", "worst"}
    trainer.run_epoch()
    last = json.loads(json.dumps(trainer.diagnostics()))
    assert (first["epoch"], last["epoch"]) == (1, 2)
    assert last["images"] == len(trainer.dataset.rows["validation"])
    assert "interval" in last


def test_diagnostics_are_those_of_the_objective_epoch(multiclass, tiny):
    trainer = Trainer(multiclass, tiny(epochs=3, schedule="constant", learning_rate=0.02), device=CPU)
    diagnostics = []
    for _ in range(3):
        trainer.run_epoch()
        diagnostics.append(trainer.diagnostics())
    assert [one["epoch"] for one in diagnostics] == [1 + trainer.history["objective"].index(best) for best in trainer.history["objective"]]
    right = sum(count for truth, predicted, count in diagnostics[-1]["confusion"] if truth == predicted)
    assert right / diagnostics[-1]["images"] == pytest.approx(trainer.history["accuracy"][trainer.objective_epoch() - 1])


def validation_predictions(dataset, logits):
    rows = dataset.rows["validation"]
    targets = torch.from_numpy(dataset.targets[rows])
    return decode_predictions(dataset, "validation", logits, targets, TargetScale()), targets


@given(seed=st.integers(0, 1000))
def test_confusion_and_reliability_count_every_image_once_and_agree_with_the_accuracy(multiclass, seed):
    rows = multiclass.rows["validation"]
    predictions, targets = validation_predictions(multiclass, torch.randn(len(rows), 3, generator=torch.Generator().manual_seed(seed)))
    counted = diagnose(predictions)["confusion"]
    assert sum(count for _, _, count in counted) == len(rows)
    accuracy = TASKS["multiclass"].metrics(predictions.outputs, targets)["accuracy"]
    assert sum(count for truth, predicted, count in counted if truth == predicted) / len(rows) == pytest.approx(accuracy)
    bins = diagnose(predictions)["reliability"]
    assert sum(count for _, _, count in bins) == len(rows)
    assert sum(right * count for _, right, count in bins) / len(rows) == pytest.approx(accuracy)


def test_the_worst_images_are_wrong_ones_with_the_highest_probability_first(multiclass):
    rows = multiclass.rows["validation"]
    logits = torch.zeros(len(rows), 3)
    logits[torch.arange(len(rows)), torch.from_numpy(multiclass.targets[rows])] = 4.0
    logits[2] = torch.tensor([9.0, 0.0, 0.0]).roll(1 + int(multiclass.targets[rows[2]]))
    logits[0] = torch.tensor([5.0, 0.0, 0.0]).roll(1 + int(multiclass.targets[rows[0]]))
    predictions, _ = validation_predictions(multiclass, logits)
    worst = worst_images(predictions)
    assert [one["name"] for one in worst] == [multiclass.names[rows[2]], multiclass.names[rows[0]]]
    assert worst[0]["truth"] == multiclass.classes[int(multiclass.targets[rows[2]])]
    assert worst[0]["prediction"].endswith("(100%)")
    assert worst[0]["prediction"].split(" (")[0] != worst[0]["truth"]
    picture = Image.open(io.BytesIO(base64.b64decode(worst[0]["jpeg"])))
    stored = multiclass.images[rows[2]]
    assert picture.size == stored.shape[:2]
    assert np.abs(np.asarray(picture, float) - stored).mean() < 20


def test_a_perfect_network_has_no_worst_images(multilabel):
    rows = multilabel.rows["validation"]
    predictions, targets = validation_predictions(multilabel, torch.from_numpy(multilabel.targets[rows]) * 20 - 10)
    assert worst_images(predictions) == []
    assert [value for _, value, _ in diagnose(predictions)["precision"]] == [1.0] * int((targets.sum(0) > 0).sum())


def test_scatter_takes_evenly_spread_images_of_many(regression):
    rows = np.resize(regression.rows["validation"], 2 * MAX_POINTS)
    many = replace(regression, rows={**regression.rows, "validation": rows})
    predictions, targets = validation_predictions(many, torch.arange(len(rows), dtype=torch.float32)[:, None])
    points = diagnose(predictions)["scatter"]
    assert len(points) == MAX_POINTS
    assert (points[0], points[-1]) == ([float(targets[0]), 0.0], [float(targets[-1]), float(len(rows) - 1)])


def test_the_interval_of_a_mean_is_two_standard_errors():
    """For a mean, the jackknife over single values gives the usual standard error; over groups it is close to that."""
    values = torch.randn(4000, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    low, high = interval(float(values.mean()), lambda places: float(values[places].mean()), len(values))
    assert (low + high) / 2 == pytest.approx(float(values.mean()))
    assert (high - low) / 2 == pytest.approx(2 / math.sqrt(len(values)), rel=0.5)


def test_intervals_contain_the_true_value_in_95_of_100_cases():
    draw, hits, runs = torch.Generator().manual_seed(0), 0, 400
    for _ in range(runs):
        right = (torch.rand(200, generator=draw) < 0.8).double()
        low, high = interval(float(right.mean()), lambda places, right=right: float(right[places].mean()), len(right))
        hits += low <= 0.8 <= high
    assert 0.91 <= hits / runs <= 0.98


def test_too_few_images_have_no_interval():
    assert interval(0.5, lambda places: 0.5, 2 * GROUPS - 1) is None
