import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk
from torch.nn import functional as F

from trainables.errors import ConfigError
from trainables.objectives import LOSSES, METRICS
from trainables.training.tasks import TASKS, TargetScale, build_loss, fit_target_scale, score

SEEDS = st.integers(0, 2**32 - 1)


def metrics_of(task, logits, targets, *, loss=None, scale=None):
    scale = scale or TargetScale()
    return score(task, torch.as_tensor(logits), torch.as_tensor(targets), build_loss(task, loss, scale=scale), scale)


@settings(max_examples=25)
@given(SEEDS, st.integers(5, 60))
def test_binary_metrics_equal_scikit_learn(seed, images):
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(images, 1)).astype(np.float32)
    targets = np.array([0, 1, *rng.integers(0, 2, images - 2)])
    scores = 1 / (1 + np.exp(-logits[:, 0]))
    assert metrics_of("binary", logits, targets) == pytest.approx(
        {
            "accuracy": sk.accuracy_score(targets, scores > 0.5),
            "f1": sk.f1_score(targets, scores > 0.5, zero_division=0),
            "auroc": sk.roc_auc_score(targets, scores),
            "average_precision": sk.average_precision_score(targets, scores),
            "loss": sk.log_loss(targets, scores),
        },
        abs=1e-5,
    )


@settings(max_examples=25)
@given(SEEDS, st.integers(2, 14), st.integers(1, 60))
def test_multiclass_metrics_equal_scikit_learn(seed, classes, images):
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(images, classes)).astype(np.float32)
    targets = rng.integers(0, classes, images)
    predicted, labels = logits.argmax(1), np.arange(classes)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # classes that occur among the predictions only
        expected = {
            "accuracy": sk.accuracy_score(targets, predicted),
            "balanced_accuracy": sk.balanced_accuracy_score(targets, predicted),
            "macro_f1": sk.f1_score(targets, predicted, average="macro"),
            "loss": float(F.cross_entropy(torch.as_tensor(logits), torch.as_tensor(targets))),
        }
        if classes >= 10:
            expected["top5"] = sk.top_k_accuracy_score(targets, logits, k=5, labels=labels)
    assert metrics_of("multiclass", logits, targets) == pytest.approx(expected, abs=1e-5)


@settings(max_examples=25)
@given(SEEDS, st.integers(2, 8), st.integers(1, 40), st.floats(0.02, 0.9))
def test_multilabel_metrics_equal_scikit_learn(seed, labels, images, share):
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(images, labels)).astype(np.float32)
    targets = (rng.random((images, labels)) < share).astype(np.float32)
    scores, predicted = 1 / (1 + np.exp(-logits)), logits > 0
    present = [label for label in range(labels) if targets[:, label].any()]
    precisions = [sk.average_precision_score(targets[:, label], scores[:, label]) for label in present]
    assert metrics_of("multilabel", logits, targets) == pytest.approx(
        {
            "map": np.mean(precisions) if present else 0.0,
            "micro_f1": sk.f1_score(targets, predicted, average="micro", zero_division=0),
            "macro_f1": sk.f1_score(targets, predicted, average="macro", zero_division=0),
            "hamming": sk.hamming_loss(targets, predicted),
            "loss": np.mean(np.logaddexp(0, logits) - targets * logits),
        },
        abs=1e-5,
    )


@pytest.mark.parametrize("present", [0, 1, 2])
def test_map_averages_over_labels_with_a_positive_image_and_is_0_without_one(present):
    logits, targets = torch.randn(6, 3), torch.zeros(6, 3)
    targets[0, :present] = 1
    logits[0, :present] = 9
    assert metrics_of("multilabel", logits, targets)["map"] == (1.0 if present else 0.0)


@settings(max_examples=25)
@given(SEEDS, st.integers(2, 60), st.sampled_from([(0.0, 1.0), (100.0, 30.0), (1.6e9, 1000.0), (0.0, 1e-4)]), st.booleans())
def test_regression_metrics_equal_scikit_learn_in_original_units(seed, images, units, whole):
    rng = np.random.default_rng(seed)
    targets = rng.normal(*units, size=images).astype(np.float32)
    targets = (
        np.append(targets, targets[0] + np.float32(units[1] * 4)) if whole else np.append(targets, np.float32(2 * units[0] + units[1]))
    )
    outputs = rng.normal(size=(len(targets), 1)).astype(np.float32)
    scale = fit_target_scale(targets.astype(np.float64), "linear")
    metrics = metrics_of("regression", outputs, targets, scale=scale)
    predictions = scale.decode(torch.as_tensor(outputs).double())[:, 0].numpy()
    targets = targets.astype(np.float64)
    assert metrics["mae"] == pytest.approx(sk.mean_absolute_error(targets, predictions), rel=1e-5)
    assert metrics["rmse"] == pytest.approx(sk.root_mean_squared_error(targets, predictions), rel=1e-5)
    assert metrics["r2"] == pytest.approx(sk.r2_score(targets, predictions), rel=1e-4, abs=1e-4)
    large = np.abs(targets) > 1e-5  # torchmetrics takes a smaller target for 1e-6
    if large.all():
        assert metrics["mape"] == pytest.approx(sk.mean_absolute_percentage_error(targets, predictions), rel=1e-4)


def test_mape_leaves_out_targets_at_zero():
    assert metrics_of("regression", [[2.0], [3.0], [5.0]], [0.0, 2.0, 4.0])["mape"] == pytest.approx((0.5 + 0.25) / 2)
    assert "mape" not in metrics_of("regression", [[2.0], [3.0]], [0.0, 0.0])


@pytest.mark.parametrize("targets", [[3.0], [3.0, 3.0]])
def test_r2_of_equal_targets_is_0(targets):
    assert metrics_of("regression", torch.zeros(len(targets), 1), targets)["r2"] == 0


def test_metrics_of_log_targets_are_in_original_units():
    targets = np.exp(np.random.default_rng(0).normal(2, 1, 50))
    scale = fit_target_scale(targets, "log")
    encoded = scale.encode(torch.as_tensor(targets))
    assert (encoded.mean().item(), encoded.std(correction=0).item()) == pytest.approx((0, 1), abs=1e-9)
    metrics = metrics_of("regression", encoded.view(-1, 1) + 0.5, targets, scale=scale)
    predictions = targets * math.exp(0.5 * scale.deviation)
    assert metrics["mae"] == pytest.approx(np.abs(predictions - targets).mean())
    assert metrics["mape"] == pytest.approx(math.exp(0.5 * scale.deviation) - 1)
    assert metrics["loss"] == pytest.approx(0.25), "the loss is in the units that the network is trained on"


def test_metrics_of_a_huge_output_on_a_log_target_are_finite():
    metrics = metrics_of("regression", [[1e6], [0.0]], [1.0, 2.0], scale=TargetScale(0, 1, logarithm=True))
    assert all(map(math.isfinite, metrics.values()))


@pytest.mark.parametrize(
    ("name", "plain"), [("mse", lambda d: (d**2).mean()), ("mae", lambda d: d.abs().mean()), ("huber", lambda d: F.huber_loss(d, d * 0))]
)
def test_losses_are_computed_on_standardised_targets(name, plain):
    torch.manual_seed(0)
    targets = torch.rand(20) * 50 + 900
    scale = fit_target_scale(targets.numpy(), "linear")
    outputs = torch.randn(20, 1)
    standardised = (targets - targets.mean()) / targets.std(correction=0)
    loss = build_loss("regression", name, scale=scale)(outputs, targets)
    assert loss.item() == pytest.approx(plain(outputs[:, 0] - standardised).item(), rel=1e-3)


@pytest.mark.parametrize("logarithm", [False, True])
def test_mape_loss_is_computed_in_original_units(logarithm):
    scale = TargetScale(3.0, 0.5, logarithm)
    outputs, targets = torch.tensor([[0.4], [-1.0]]), torch.tensor([20.0, 4.0])
    loss = build_loss("regression", "mape", scale=scale)(outputs, targets).item()
    assert loss == pytest.approx(metrics_of("regression", outputs, targets, scale=scale)["mape"])


def test_the_scale_of_equal_targets_has_deviation_1():
    assert fit_target_scale(np.full(5, 7.0), "linear") == TargetScale(7.0, 1.0)


@given(st.lists(st.floats(0.01, 1e4), min_size=2, max_size=20), st.sampled_from(["linear", "log"]))
def test_a_target_scale_round_trips(targets, name):
    scale = fit_target_scale(np.array(targets), name)
    wanted = torch.tensor(targets, dtype=torch.float64)
    assert torch.allclose(scale.decode(scale.encode(wanted)), wanted, rtol=1e-6)


def test_label_smoothing_is_in_the_training_loss_only():
    logits, targets = torch.randn(9, 4), torch.randint(4, (9,))
    smooth, plain = build_loss("multiclass", None, label_smoothing=0.2), build_loss("multiclass", None)
    logs = F.log_softmax(logits, 1)
    expected = -(0.8 * logs[torch.arange(9), targets] + 0.2 * logs.mean(1)).mean()
    assert smooth(logits, targets).item() == pytest.approx(expected.item(), rel=1e-5)
    assert plain(logits, targets).item() == pytest.approx(F.cross_entropy(logits, targets).item())


@pytest.mark.parametrize("task", TASKS)
def test_every_task_gives_all_metrics_of_the_table_and_every_loss_a_gradient(task):
    targets = {"regression": torch.rand(12) + 1, "multilabel": (torch.rand(12, 11) < 0.5).float()}.get(task, torch.arange(12) % 11)
    targets = targets % 2 if task == "binary" else targets
    row = TASKS[task]
    logits = torch.randn(12, row.outputs(11), requires_grad=True)
    for name in LOSSES[row.name]:
        loss = build_loss(task, name)
        loss(logits, targets).backward()
        metrics = score(task, logits.detach(), targets, loss, TargetScale())
        assert set(metrics) == set(METRICS[task])
        assert all(map(math.isfinite, metrics.values()))
    assert logits.grad.abs().sum() > 0


def test_top5_is_computed_from_ten_classes_on():
    for classes, expected in ((9, False), (10, True)):
        assert ("top5" in metrics_of("multiclass", torch.randn(20, classes), torch.arange(20) % classes)) == expected


def test_a_loss_of_another_task_is_rejected():
    with pytest.raises(ConfigError, match="loss 'mse' is not a loss of a multiclass task"):
        build_loss("multiclass", "mse")
    with pytest.raises(ConfigError, match="did you mean 'mse'"):
        build_loss("regression", "msee")


@pytest.mark.parametrize("start", [1e12, 1.7e9, 1e-9])
def test_metrics_of_targets_far_from_zero_are_exact(start):
    """In single precision all targets around 1e12 would round to one number, and any prediction near it would be perfect."""
    targets = start + np.arange(40) * abs(start) * 1e-12 + np.arange(40) * (start > 1)
    scale = fit_target_scale(targets, "linear")
    metrics = score("regression", torch.zeros(40, 1), torch.from_numpy(targets), build_loss("regression", "mse", scale=scale), scale)
    assert metrics["mae"] == pytest.approx(np.abs(targets - targets.mean()).mean(), rel=1e-6)
    assert metrics["loss"] == pytest.approx(1, rel=1e-5)
