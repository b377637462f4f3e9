import warnings
from itertools import pairwise

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainables.config import AUGMENTATION_OPS, AugmentationOp
from trainables.errors import ConfigError
from trainables.images.augmentation import GREY, OPS, Augmenter, sample_seed
from trainables.images.pixel_map import stored_side

SIZE = 32
SIDE = stored_side(SIZE)
STRENGTHS = [step / 8 for step in range(9)]


def textured(seed, side=SIDE):
    """Return an image with structure at every scale."""
    rng = np.random.default_rng(seed)
    layers = [cv2.resize(rng.normal(size=(grain, grain, 3)), (side, side), interpolation=cv2.INTER_CUBIC) for grain in (3, 6, 12, side)]
    return (128 + 35 * sum(layers)).clip(0, 255).astype(np.uint8)


def centre(image, size=SIZE):
    margin = (len(image) - size) // 2
    return image[margin : margin + size, margin : margin + size]


def mean_change(strength, ops, draws=120):
    augment = Augmenter(strength, ops, SIZE)
    images = [textured(seed) for seed in range(4)]
    changes = [np.abs(augment(images[draw % 4], draw).astype(int) - centre(images[draw % 4])).mean() for draw in range(draws)]
    return float(np.mean(changes))


def test_ops_are_those_that_the_configuration_names():
    assert tuple(OPS) == AugmentationOp.__args__
    assert set(AUGMENTATION_OPS) == set(OPS) - {"vertical_flip", "trivial"}


@given(st.integers(16, 80))
def test_strength_0_gives_the_centre_crop(size):
    image = textured(0, stored_side(size))
    assert np.array_equal(Augmenter(0, tuple(OPS), size)(image, 5), centre(image, size))


def test_without_ops_the_result_is_the_centre_crop():
    assert np.array_equal(Augmenter(1, (), SIZE)(textured(0), 5), centre(textured(0)))


def test_mean_change_of_pixels_grows_with_strength():
    changes = [mean_change(strength, AUGMENTATION_OPS, draws=240) for strength in STRENGTHS]
    assert changes[0] == 0
    assert changes[1] > 0
    assert all(b > a - 0.01 * changes[-1] for a, b in pairwise(changes)), changes
    assert changes[8] > changes[4] > changes[2] > changes[1]


@pytest.mark.parametrize("op", OPS)
def test_every_op_changes_pixels_more_when_stronger(op):
    changes = [mean_change(strength, (op,)) for strength in (0, 0.25, 1)]
    assert changes[0] == 0 < changes[2]
    assert changes[1] <= changes[2]


def test_operations_are_drawn_independently():
    """If all operations began at the same random number, an image that is flipped would nearly always have holes as well."""
    augment, image = Augmenter(0.5, ("flip", "dropout"), SIZE), np.full((SIDE, SIDE, 3), 90, np.uint8)
    image[:, : SIDE // 2] = 30
    draws = [augment(image, sample_seed(0, 0, draw)) for draw in range(600)]
    flipped = np.array([np.median(draw[:, :4]) > 60 for draw in draws])
    holes = np.array([(draw == GREY).any() for draw in draws])
    assert 0.42 < flipped.mean() < 0.58
    assert 0.25 < holes.mean() < 0.45
    expected = flipped.mean() * holes.mean()
    assert abs((flipped & holes).mean() - expected) < 0.05, "the joint frequency is not the product of both"


def test_albumentations_gives_no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for strength in STRENGTHS:
            for ops in (tuple(OPS), AUGMENTATION_OPS, *((op,) for op in OPS)):
                augmented = Augmenter(strength, ops, SIZE)(textured(1), 3)
                assert augmented.shape == (SIZE, SIZE, 3)
                assert augmented.dtype == np.uint8


@settings(max_examples=20)
@given(st.integers(0, 2**32 - 1), st.sampled_from(STRENGTHS[1:]))
def test_result_depends_on_the_seed_and_not_on_earlier_calls(seed, strength):
    used, fresh = Augmenter(strength, tuple(OPS), SIZE), Augmenter(strength, tuple(OPS), SIZE)
    image = textured(2)
    before = image.copy()
    for other in range(3):
        used(textured(other), other)
    assert np.array_equal(used(image, seed), fresh(image, seed))
    assert np.array_equal(image, before), "the pixel map is shared and must not change"


def test_different_seeds_give_different_images():
    augment = Augmenter(0.25, AUGMENTATION_OPS, SIZE)
    assert len({augment(textured(0), seed).tobytes() for seed in range(50)}) > 45


LEFT_TO_RIGHT = np.broadcast_to(np.linspace(20, 230, SIDE).astype(np.uint8)[None, :, None], (SIDE, SIDE, 3)).copy()


def slopes(ops, image, axis):
    """Return the mean difference of neighbouring pixels along an axis, for each of many draws."""
    augment = Augmenter(1, ops, SIZE)
    return np.array([np.diff(augment(image, seed).astype(float), axis=axis).mean() for seed in range(80)])


def test_ops_that_are_not_chosen_never_occur():
    unflipped = tuple(op for op in OPS if "flip" not in op)
    assert (slopes(("crop", "affine", "color", "noise"), LEFT_TO_RIGHT, 1) > 0).all(), "without flip nothing is mirrored"
    assert (slopes(("crop", "affine", "color", "noise"), LEFT_TO_RIGHT.transpose(1, 0, 2).copy(), 0) > 0).all()
    mirrored = (slopes(("flip",), LEFT_TO_RIGHT, 1) < 0).mean()
    assert 0.3 < mirrored < 0.7
    grey = np.full_like(LEFT_TO_RIGHT, 90)
    for op in unflipped:
        if op in ("crop", "affine"):
            assert all(np.array_equal(Augmenter(1, (op,), SIZE)(grey, seed), centre(grey)) for seed in range(20)), "moves, never recolours"


def test_color_op_moves_no_pixel():
    image = np.zeros_like(textured(0))
    image[:, : len(image) // 2] = 200
    for seed in range(20):
        augmented = Augmenter(1, ("color",), SIZE)(image, seed)
        assert len(np.unique(augmented[:, :16].reshape(-1, 3), axis=0)) == 1
        assert len(np.unique(augmented[:, 16:].reshape(-1, 3), axis=0)) == 1


def test_augmenter_rejects_invalid_strength_and_unknown_op():
    with pytest.raises(ConfigError, match=r"must be in \[0, 1\] but got 1.4"):
        Augmenter(1.4, (), SIZE)
    with pytest.raises(ConfigError, match="did you mean 'flip'"):
        Augmenter(0.5, ("flipp",), SIZE)


def test_sample_seeds_of_a_trial_differ():
    seeds = {sample_seed(seed, epoch, sample) for seed in range(3) for epoch in range(10) for sample in range(100)}
    assert len(seeds) >= 2999  # of 32 bits: two are equal with a probability of one in a thousand


def test_trivial_applies_one_of_many_operations_at_a_random_strength():
    image = textured(3)
    augment = Augmenter(1, ("trivial",), SIZE)
    views = [augment(image, seed) for seed in range(300)]
    unchanged = np.mean([np.array_equal(view, centre(image)) for view in views])
    assert 0.02 < unchanged < 0.2, "one of fourteen operations changes nothing"
    assert len({view.tobytes() for view in views}) > 170
    colours = [len(np.unique(view)) for view in views]
    assert 0.02 < np.mean([count <= 128 for count in colours]) < 0.2, "posterized"


def test_each_operation_of_trivial_is_drawn_and_full_contrast_is_rarer_when_weak():
    dark = np.linspace(40, 90, SIDE).astype(np.uint8)[None, :, None] + np.zeros((SIDE, SIDE, 3), np.uint8)
    chances = {}
    for strength in (0.1, 1.0):
        views = [Augmenter(strength, ("trivial",), SIZE)(dark, seed) for seed in range(300)]
        chances[strength] = np.mean([np.ptp(view) > 200 for view in views])
    assert 0.05 < chances[1.0] < 0.35
    assert chances[0.1] < chances[1.0] / 3
