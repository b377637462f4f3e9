from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from tests.trainables.images.test_augmentation import SIDE, SIZE, centre, textured
from trainables.config import AugmentationOp
from trainables.images import device_augmentation as module
from trainables.images.augmentation import OPS, Augmenter
from trainables.images.augmentation_ranges import GREY, ranges
from trainables.images.device_augmentation import DEVICE_OPS, DeviceAugmenter
from trainables.images.draws import Draws

STRENGTH = 0.5
ALL = tuple(sorted(DEVICE_OPS))
NEUTRAL = {"brightness": (1, 1), "contrast": (1, 1), "saturation": (1, 1), "hue": (0, 0), "color_chance": 1.0}
STILL = {"rotation": (0, 0), "shear": (0, 0), "zoom": (1, 1), "shift": (0, 0), "affine_chance": 1.0}


def stacked(count=1):
    return torch.from_numpy(np.stack([textured(number % 4) for number in range(count)])).permute(0, 3, 1, 2)


def views(ops, count=1, *, strength=STRENGTH, seed=0, images=None):
    """Return augmented views `(count, SIZE, SIZE, 3)` of textured images."""
    images = stacked(count) if images is None else images
    result = DeviceAugmenter(strength, ops, SIZE)(images, Draws(seed, 0, np.arange(count)))
    assert result.shape == (count, 3, SIZE, SIZE)
    assert result.dtype == torch.float32
    return result.permute(0, 2, 3, 1).numpy()


@pytest.fixture
def fixed(monkeypatch):
    """Return a function that fixes some of the ranges, for both kinds of augmentation."""

    def fix(**values):
        monkeypatch.setattr(module, "ranges", lambda strength: replace(ranges(strength), **values))
        return replace(ranges(STRENGTH), **values)

    return fix


def on_the_cpu(op, fixed_ranges, image):
    return OPS[op](STRENGTH, SIZE, fixed_ranges)(image=image)["image"].astype(float)


def test_all_ops_but_trivial_are_there():
    assert set(AugmentationOp.__args__) - {"trivial"} == DEVICE_OPS


def test_without_ops_a_view_is_the_centre():
    assert np.abs(views(())[0] - centre(textured(0))).max() < 0.01


@pytest.mark.parametrize(("op", "axis"), [("flip", 1), ("vertical_flip", 0)])
def test_half_of_the_views_are_mirrored(op, axis):
    image = centre(textured(0)).astype(float)
    made = views((op,), 400, images=stacked().expand(400, -1, -1, -1))
    mirrored = np.abs(made - np.flip(image, axis)).max((1, 2, 3)) < 0.01
    assert (mirrored | (np.abs(made - image).max((1, 2, 3)) < 0.01)).all()
    assert mirrored.mean() == pytest.approx(0.5, abs=0.1)


def test_a_crop_of_the_whole_image_is_the_resized_image(fixed):
    fixed(crop_area=(1, 1), crop_ratio=(1, 1))
    wanted = cv2.resize(textured(0), (SIZE, SIZE), interpolation=cv2.INTER_LINEAR)
    assert np.abs(views(("crop",))[0] - wanted).max() < 1


def test_crops_have_the_area_and_ratio_of_the_ranges():
    ramp = np.arange(SIDE, dtype=np.uint8)
    image = np.stack([np.broadcast_to(ramp, (SIDE, SIDE)), np.broadcast_to(ramp[:, None], (SIDE, SIDE)), np.zeros((SIDE, SIDE))], -1)
    made = views(("crop",), 500, images=torch.from_numpy(image.astype(np.uint8)).permute(2, 0, 1).expand(500, -1, -1, -1))
    scale = (SIZE - 1) / SIZE * SIDE  # between the middles of the first and last pixels
    width, height = (made[:, :, -1, 0] - made[:, :, 0, 0]).mean(1) / scale, (made[:, -1, :, 1] - made[:, 0, :, 1]).mean(1) / scale
    area, ratio = width * height, width / height
    low, high = ranges(STRENGTH).crop_area
    assert area.min() > low - 0.02
    assert area.max() < high + 0.02
    assert area.std() > 0.2 * (high - low)
    assert ratio.min() > ranges(STRENGTH).crop_ratio[0] - 0.02
    assert ratio.max() < ranges(STRENGTH).crop_ratio[1] + 0.02


@pytest.mark.parametrize(
    "values",
    [
        {"rotation": (25, 25)},
        {"shear": (12, 12)},
        {"zoom": (0.7, 0.7)},
        {"zoom": (1.3, 1.3)},
        {"shift": (0.125, 0.125)},
        {"rotation": (-20, -20), "zoom": (0.8, 0.8), "shift": (-0.25, -0.25), "shear": (8, 8)},
    ],
)
def test_affine_maps_are_those_of_the_cpu(fixed, values):
    chosen = fixed(**STILL | values)
    wanted = on_the_cpu("affine", chosen, centre(textured(0)))
    if values.get("shear"):  # Albumentations changes the sign of what it draws
        wanted = on_the_cpu("affine", replace(chosen, shear=tuple(-angle for angle in chosen.shear)), centre(textured(0)))
    assert np.abs(views(("affine",))[0] - wanted).mean() < 1


@pytest.mark.parametrize(
    "values",
    [{"brightness": (1.3, 1.3)}, {"contrast": (0.6, 0.6)}, {"saturation": (1.4, 1.4)}, {"hue": (0.06, 0.06)}, {"hue": (-0.3, -0.3)}],
)
def test_colour_changes_are_those_of_the_cpu(fixed, values):
    chosen = fixed(**NEUTRAL | values)
    wanted = on_the_cpu("color", chosen, centre(textured(0)))
    assert np.abs(views(("color",))[0] - wanted).mean() < 1.5


def test_a_grey_image_stays_grey():
    grey = torch.full((8, 3, SIDE, SIDE), 90, dtype=torch.uint8)
    made = views(("color",), 8, images=grey)
    assert np.ptp(made, axis=-1).max() < 0.01


def test_images_get_noise_or_the_blur_of_the_cpu(fixed):
    fixed(noise_chance=1.0, blur=(1.5, 1.5), noise=(0.1, 0.1))
    image = centre(textured(0))
    made = views(("noise",), 100, images=stacked().expand(100, -1, -1, -1))
    soft = np.abs(made - cv2.GaussianBlur(image, (11, 11), 1.5)).max((1, 2, 3)) < 1
    assert soft.mean() == pytest.approx(0.5, abs=0.2)
    middling = (image > 100) & (image < 156)  # not cut off at 0 or 255
    assert (made[~soft] - image)[:, middling].std() == pytest.approx(25.5, rel=0.1)


def test_grey_rectangles_have_the_number_and_sides_of_the_ranges(fixed):
    fixed(dropout_chance=1.0, holes=(2, 2), hole_side=(0.25, 0.25))
    white = torch.full((50, 3, SIDE, SIDE), 255, dtype=torch.uint8)
    holes = (views(("dropout",), 50, images=white) == GREY).all(-1)
    area = holes.sum((1, 2))
    assert area.max() == 2 * (SIZE // 4) ** 2
    assert area.min() >= (SIZE // 4) ** 2
    assert (holes.mean(0) > 0).mean() > 0.9  # they are everywhere


@pytest.mark.parametrize("strength", [0.25, 0.5, 1.0])
def test_views_differ_from_the_centre_as_much_as_those_of_the_cpu(strength):
    images, count = [textured(seed) for seed in range(4)], 400
    centres = np.stack([centre(images[number % 4]) for number in range(count)]).astype(float)
    augment = Augmenter(strength, ALL, SIZE)
    there = np.abs(np.stack([augment(images[number % 4], number) for number in range(count)]) - centres).mean()
    here = np.abs(views(ALL, count, strength=strength) - centres).mean()
    assert here == pytest.approx(there, rel=0.08)


def test_a_view_does_not_depend_on_the_other_images_of_its_batch():
    images, draws = stacked(12), np.arange(12)
    together = DeviceAugmenter(1.0, ALL, SIZE)(images, Draws(0, 3, draws))
    for number in (0, 5, 11):
        alone = DeviceAugmenter(1.0, ALL, SIZE)(images[number : number + 1], Draws(0, 3, draws[number : number + 1]))
        assert torch.allclose(alone[0], together[number], atol=0.01)


def test_values_stay_in_their_range():
    made = views(ALL, 64, strength=1.0)
    assert made.min() >= 0
    assert made.max() <= 255.01
