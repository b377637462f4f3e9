import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trainables.training.class_balance import class_weights, image_weights, loss_weights, positive_weights
from trainables.training.tasks import build_loss

COUNTS = st.lists(st.integers(1, 400), min_size=2, max_size=6)


def targets_of(counts):
    return np.repeat(np.arange(len(counts)), counts)


@given(COUNTS)
def test_class_weights_are_inverse_to_the_counts_within_their_bound_and_have_the_mean_1(counts):
    weights = class_weights(targets_of(counts), len(counts))
    assert weights[targets_of(counts)].mean() == pytest.approx(1)
    for weight, count in zip(weights, counts, strict=True):
        assert weight / weights[np.argmax(counts)] == pytest.approx(min(10, max(counts) / count))


def test_a_class_without_images_has_the_weight_of_the_rarest():
    weights = class_weights(np.repeat([0, 1], [40, 4]), 3)
    assert weights[2] == weights[1] == pytest.approx(10 * weights[0])


@pytest.mark.parametrize(("counts", "expected"), [((30, 10), 3), ((10, 30), 1 / 3), ((300, 1), 10), ((1, 300), 0.1), ((20, 0), 10)])
def test_positives_count_as_much_as_negatives_within_the_bound(counts, expected):
    binary = targets_of(counts)
    assert positive_weights(binary) == pytest.approx(expected)
    assert positive_weights(np.stack([binary, 1 - binary], 1)) == pytest.approx([expected, np.clip(1 / expected, 0.1, 10)])
    assert positive_weights(binary.astype(np.float32)).shape == ()


def test_the_weights_of_each_task_make_the_loss_of_all_classes_equal():
    """The loss of a class summed over its images; a network that knows nothing gives every image the same loss."""
    targets = np.repeat([0, 1, 2], [40, 20, 10])
    loss = build_loss("multiclass", None, weights=loss_weights("multiclass", targets, 3))
    sums = [float(loss(torch.zeros(count, 3), torch.full((count,), index))) * count for index, count in enumerate((40, 20, 10))]
    assert sums == pytest.approx([sums[0]] * 3)
    assert float(loss(torch.zeros(70, 3), torch.from_numpy(targets))) == pytest.approx(np.log(3)), "as large as without weights"
    binary = np.repeat([0, 1], [40, 10])
    loss = build_loss("binary", None, weights=loss_weights("binary", binary, 2))
    negative, positive = (float(loss(torch.zeros(count, 1), torch.full((count,), index))) * count for index, count in enumerate((40, 10)))
    assert negative == pytest.approx(positive)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_weighted_loss_of_a_batch_is_the_mean_of_those_of_its_halves(smoothing):
    weights = torch.tensor([0.5, 3.0])
    loss = build_loss("multiclass", None, label_smoothing=smoothing, weights=weights)
    logits, targets = torch.randn(8, 2), torch.tensor([0, 0, 0, 0, 1, 1, 0, 1])
    halves = [loss(logits[part], targets[part]) for part in (slice(0, 4), slice(4, 8))]
    assert loss(logits, targets).item() == pytest.approx(float(sum(halves)) / 2)
    soft = torch.eye(2)[targets]
    assert loss(logits, soft).item() == pytest.approx(loss(logits, targets).item())


def test_images_are_drawn_so_that_all_classes_are_as_frequent():
    targets = np.repeat([0, 1], [40, 10])
    weights = image_weights(targets)
    assert weights[targets == 0].sum() == pytest.approx(weights[targets == 1].sum())
    assert image_weights(np.repeat([0.0, 1.0], [400, 10])).max() < 10
