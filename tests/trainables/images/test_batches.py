import numpy as np
import pytest
import torch

from trainables.distributed.world import World
from trainables.images.augmentation import Augmenter, sample_seed
from trainables.images.batches import Batches, shuffled

SIZE, SIDE, IMAGES = 16, 18, 37
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
PIXELS = np.random.default_rng(0).integers(0, 256, (IMAGES, SIDE, SIDE, 3), np.uint8)
TARGETS = np.arange(IMAGES)
ROWS = np.arange(2, 35)


def build(workers=0, targets=TARGETS, images=PIXELS, **options):
    return Batches(images, targets, image_size=SIZE, mean=MEAN, std=STD, device=torch.device("cpu"), workers=workers, **options)


def train(batches, **changes):
    options = {"batch_size": 8, "strength": 0.5, "ops": ("crop", "flip", "color"), "seed": 0, "epoch": 1}
    return batches.training(ROWS, **{**options, **changes})


def content(found):
    return [(images.numpy().tobytes(), targets.tolist()) for images, targets in found]


def test_batches_are_the_same_for_any_number_of_worker_threads():
    expected = content(train(build(), passes=3))
    assert len(expected) == 12
    for workers in (1, 3):
        assert content(train(build(workers), passes=3)) == expected


@pytest.mark.parametrize("size", [2, 4])
def test_parts_of_all_ranks_make_the_whole_batch(size):
    whole = list(train(build(), passes=2))
    parts = [list(train(build(rank % 2), passes=2, world=World(rank, size))) for rank in range(size)]
    for (images, targets), *mine in zip(whole, *parts, strict=True):
        assert {len(wanted) for _, wanted in mine} == {8 // size}
        assert torch.equal(torch.cat([seen for seen, _ in mine]), images)
        assert torch.equal(torch.cat([wanted for _, wanted in mine]), targets)


def test_an_epoch_does_not_depend_on_earlier_epochs():
    """So that a resumed trial sees the batches that it would have seen without the interruption."""
    batches = build()
    expected = content(train(batches, epoch=3, passes=2))
    for epoch in (1, 2):
        list(train(batches, epoch=epoch, passes=2))
    assert content(train(batches, epoch=3, passes=2)) == expected


def test_batches_differ_between_epochs_passes_and_seeds():
    batches = build()
    passes = [content(train(batches, epoch=epoch)) for epoch in (1, 2, 3, 4)]
    passes.append(content(train(batches, seed=1)))
    orders = {tuple(target for _, targets in one for target in targets) for one in passes}
    assert len(orders) == 5
    views = [
        dict(zip([row for _, targets in one for row in targets], torch.cat([i for i, _ in train(batches, epoch=e)]), strict=True))
        for e, one in enumerate(passes[:2], 1)
    ]
    shared = views[0].keys() & views[1].keys()
    assert len(shared) > 20
    assert not any(torch.equal(views[0][row], views[1][row]) for row in shared), "another view of the same image"
    assert content(train(batches, epoch=1, passes=2)) == passes[0] + passes[1]
    assert content(train(batches, epoch=2, passes=2)) == passes[2] + passes[3]


def test_a_pass_has_full_batches_only_and_each_row_at_most_once():
    found = list(train(build(), passes=5))
    assert [len(targets) for _, targets in found] == [8] * 20
    for start in range(0, 20, 4):
        rows = torch.cat([targets for _, targets in found[start : start + 4]]).tolist()
        assert len(set(rows)) == 32
        assert set(rows) <= set(ROWS.tolist())
    left_out = [set(ROWS) - {int(t) for _, targets in found[start : start + 4] for t in targets} for start in range(0, 20, 4)]
    assert len(set(map(tuple, left_out))) > 1, "the row that is left out varies"


def test_training_images_are_augmented_and_normalised():
    images, targets = next(train(build(1), epoch=4))
    augment = Augmenter(0.5, ("crop", "flip", "color"), SIZE)
    for image, row in zip(images, targets.tolist(), strict=True):
        view = augment(PIXELS[row], sample_seed(0, 3, row)) / 255
        assert np.allclose(image.permute(1, 2, 0), (view - MEAN) / STD, atol=1e-5)


def test_training_at_strength_0_sees_what_evaluation_sees():
    batches = build()
    seen = {row: image for images, targets in train(batches, strength=0.0) for row, image in zip(targets.tolist(), images, strict=True)}
    for images, targets in batches.evaluation(ROWS, 10):
        for image, row in zip(images, targets.tolist(), strict=True):
            assert row not in seen or torch.equal(image, seen[row])


def test_evaluation_yields_all_rows_in_order_with_centre_crops():
    found = list(build().evaluation(ROWS, 10))
    assert [len(targets) for _, targets in found] == [10, 10, 10, 3]
    assert torch.cat([targets for _, targets in found]).tolist() == ROWS.tolist()
    middle = PIXELS[ROWS][:, 1:17, 1:17] / 255
    assert np.allclose(torch.cat([images for images, _ in found]).permute(0, 2, 3, 1), (middle - MEAN) / STD, atol=1e-5)


@pytest.mark.parametrize("side", [16, 17, 18, 19, 21])
def test_evaluation_and_strength_0_take_the_same_crop(side):
    pixels = np.random.default_rng(1).integers(0, 256, (8, side, side, 3), np.uint8)
    batches = build(images=pixels)
    rows = np.arange(8)
    seen = next(batches.training(rows, 8, strength=0.0, ops=(), seed=0, epoch=1))
    wanted = next(batches.evaluation(seen[1].numpy(), 8))
    assert torch.equal(seen[0], wanted[0])


def test_batches_are_channels_last_and_keep_target_types():
    for images, _ in (next(train(build())), next(build().evaluation(ROWS, 5))):
        assert images.shape[1:] == (3, SIZE, SIZE)
        assert images.dtype == torch.float32
        assert images.is_contiguous(memory_format=torch.channels_last)
    kinds = {np.int64: torch.int64, np.float64: torch.float64, np.float32: torch.float32}
    for given, wanted in kinds.items():
        assert next(build(targets=TARGETS.astype(given)).evaluation(ROWS, 5))[1].dtype == wanted
    assert next(build(targets=np.eye(IMAGES, dtype=np.float32)).evaluation(ROWS, 5))[1].shape == (5, IMAGES)


def test_closing_an_epoch_early_ends_it():
    batches = train(build(3), passes=50)
    next(batches)
    batches.close()
    assert list(batches) == []


def test_an_error_in_a_worker_thread_is_raised_to_the_caller():
    broken = np.zeros((IMAGES, 4, 4, 3), np.uint8)  # smaller than the crop
    with pytest.raises(Exception, match="Crop"):
        list(train(build(2, images=broken), ops=()))


WEIGHTS = np.repeat([0.5, 2.5], [27, 6])
"""Of the 33 images in `ROWS`; their mean is below 1, which `shuffled` corrects."""


def test_weighted_images_are_drawn_as_often_as_their_weights_say():
    passes = [shuffled(ROWS, WEIGHTS, np.random.default_rng(seed)) for seed in range(400)]
    counts = np.array([[np.count_nonzero(one == row) for row in ROWS] for one in passes])
    expected = WEIGHTS / WEIGHTS.mean()
    assert {len(one) for one in passes} == {len(ROWS)}
    assert np.abs(counts.mean(0) - expected).max() < 0.12
    assert (np.abs(counts - expected) < 1.0001).all(), "the number below or above"
    assert len({tuple(one) for one in passes}) == 400


def test_without_weights_each_row_is_drawn_once():
    assert sorted(shuffled(ROWS, None, np.random.default_rng(0))) == list(ROWS)
    assert np.array_equal(shuffled(ROWS, None, np.random.default_rng(3)), np.random.default_rng(3).permutation(ROWS))


def test_an_image_that_a_pass_has_twice_is_augmented_anew():
    found = [(int(row), image) for images, targets in train(build(), weights=WEIGHTS) for row, image in zip(targets, images, strict=True)]
    repeated = [row for row, _ in found if [other for other, _ in found].count(row) > 1]
    assert len(repeated) > 6
    for row in set(repeated):
        views = [image.numpy().tobytes() for other, image in found if other == row]
        assert len(set(views)) == len(views)


def test_weighted_batches_do_not_depend_on_threads_or_processes():
    expected = content(train(build(), weights=WEIGHTS, passes=2))
    assert len(expected) == 8
    assert content(train(build(3), weights=WEIGHTS, passes=2)) == expected
    parts = [list(train(build(), weights=WEIGHTS, passes=2, world=World(rank, 2))) for rank in (0, 1)]
    assert content((torch.cat([a[0], b[0]]), torch.cat([a[1], b[1]])) for a, b in zip(*parts, strict=True)) == expected


def test_mirrored_evaluation_exchanges_left_and_right_of_the_crops():
    for (plain, targets), (mirrored, others) in zip(build().evaluation(ROWS, 10), build().evaluation(ROWS, 10, mirrored=True), strict=True):
        assert torch.equal(mirrored, plain.flip(3))
        assert torch.equal(targets, others)


def test_evaluation_takes_crops_of_any_size_up_to_the_stored_one():
    for size, edge in ((18, 0), (17, 0), (16, 1), (14, 2)):
        images, _ = next(build().evaluation(ROWS, 10, size=size))
        crops = PIXELS[ROWS[:10]][:, edge : edge + size, edge : edge + size] / 255
        assert np.allclose(images.permute(0, 2, 3, 1), (crops - MEAN) / STD, atol=1e-5)


DEVICE = {"strength": 0.5, "ops": ("crop", "flip", "affine", "color", "noise", "dropout")}


def test_views_of_the_device_do_not_depend_on_processes_or_earlier_epochs():
    batches = build(augments_on_device=True)
    whole = list(train(batches, epoch=2, **DEVICE))
    list(train(batches, epoch=1, **DEVICE))
    parts = [list(train(build(augments_on_device=True), epoch=2, world=World(rank, 2), **DEVICE)) for rank in (0, 1)]
    for (images, targets), *own in zip(whole, *parts, strict=True):
        assert torch.allclose(torch.cat([seen for seen, _ in own]), images, atol=1e-4)
        assert torch.equal(torch.cat([wanted for _, wanted in own]), targets)
        assert images.is_contiguous(memory_format=torch.channels_last)


def test_views_of_the_device_are_of_the_same_images_and_differ_between_passes():
    ours, others = (list(train(build(augments_on_device=there), **DEVICE)) for there in (True, False))
    for (images, targets), (views, wanted) in zip(ours, others, strict=True):
        assert torch.equal(targets, wanted)
        assert images.shape == views.shape
        assert not torch.allclose(images, views, atol=0.1)
    assert content(train(build(augments_on_device=True), epoch=2, **DEVICE)) != content(ours)


def test_strength_0_on_the_device_is_the_centre():
    seen, targets = next(train(build(augments_on_device=True), strength=0.0))
    wanted, _ = next(build().evaluation(targets.numpy(), len(targets)))
    assert torch.allclose(seen, wanted, atol=1e-3)


def test_what_the_device_cannot_do_the_cpu_does():
    ops = ("crop", "trivial")
    there, here = build(augments_on_device=True), build()
    assert content(train(there, ops=ops)) == content(train(here, ops=ops))
    assert there.augmentation_version(ops) == here.augmentation_version(ops) != there.augmentation_version(("crop",))
