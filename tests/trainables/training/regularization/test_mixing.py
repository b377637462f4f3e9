import pytest
import torch
from torch.nn.functional import one_hot

from trainables.training.regularization.mixing import Mixing

KINDS = {"mixup": {"mixup": 0.8, "cutmix": 0.0}, "cutmix": {"mixup": 0.0, "cutmix": 0.8}, "both": {"mixup": 0.8, "cutmix": 0.8}}


def build(kind="mixup", classes=8, seed=0):
    return Mixing(**KINDS[kind], classes=classes, seed=seed)


def batch(size=8):
    """Return images, each of one value and of its own class, so that the pixels tell the proportions."""
    values = torch.arange(size).float().view(-1, 1, 1, 1)
    return values.expand(-1, 3, 16, 16).contiguous(memory_format=torch.channels_last), torch.arange(size)


def test_without_alpha_the_batch_is_returned_as_it_is():
    images, targets = batch()
    mixed = Mixing(0.0, 0.0, classes=8, seed=0)(images, targets, 3)
    assert mixed[0] is images
    assert mixed[1] is targets


@pytest.mark.parametrize("kind", KINDS)
def test_targets_are_mixed_in_the_proportion_of_the_pixels(kind):
    images, targets = batch()
    shares = []
    for step in range(20):
        mixed, probabilities = build(kind)(images, targets, step)
        assert torch.allclose(probabilities.sum(1), torch.ones(8))
        assert ((probabilities > 0).sum(1) <= 2).all()
        assert torch.allclose(mixed.mean((1, 2, 3)), probabilities @ torch.arange(8).float(), atol=1e-4)
        assert mixed.is_contiguous(memory_format=torch.channels_last)
        shares.append(probabilities[0, 0].item())
    assert len(set(shares)) > 15
    assert torch.equal(images, batch()[0]), "the batch itself must not change"


def test_mixup_blends_whole_images_and_cutmix_pastes_a_part():
    images, targets = batch()
    kinds = {kind: [len(build(kind)(images, targets, step)[0][3].unique()) for step in range(30)] for kind in KINDS}
    assert set(kinds["mixup"]) == {1}
    assert set(kinds["cutmix"]) <= {1, 2}
    assert 2 in kinds["cutmix"]
    assert 5 < kinds["both"].count(2) < 25


def test_draws_depend_on_the_seed_and_the_step_alone():
    images, targets = batch()
    expected = [build("both")(images, targets, step)[0] for step in range(4)]
    torch.manual_seed(5)
    again = build("both")
    assert all(torch.equal(again(images, targets, step)[0], expected[step]) for step in (3, 1, 2, 0))
    assert not torch.equal(build("both", seed=1)(images, targets, 0)[0], expected[0])
    assert len({image.sum().item() for image in torch.stack(expected)[:, 3]}) > 1


def test_mixing_leaves_torchs_own_random_numbers_alone():
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    build("cutmix")(*batch(), 0)
    assert torch.equal(torch.rand(2), expected)


@pytest.mark.parametrize("targets", [torch.tensor([0, 1, 1, 0]), torch.tensor([0.0, 1, 1, 0]), one_hot(torch.arange(4)), torch.eye(4)])
def test_targets_of_binary_and_multilabel_tasks_keep_their_shape(targets):
    mixed = build(classes=None)(batch(4)[0], targets, 1)[1]
    assert mixed.shape == targets.shape
    assert mixed.dtype == torch.float32
    share = build(classes=4)(batch(4)[0], torch.arange(4), 1)[1][0, 0]
    assert torch.allclose(mixed, share * targets + (1 - share) * targets.roll(1, 0))
