"""The drawn images depend on seed, class and index alone, and differ where these differ."""

from pathlib import Path

import numpy as np
import pytest

from trainables.pretraining.images import FAMILIES, SIDE, draw_image, family_of, labels_of, write_images

CLASSES = range(6)


@pytest.mark.parametrize("class_index", CLASSES)
def test_images_are_square_rgb_bytes_and_not_flat(class_index):
    image = draw_image(0, class_index, 0)
    assert image.shape == (SIDE, SIDE, 3)
    assert image.dtype == np.uint8
    assert image.std() > 5


@pytest.mark.parametrize("class_index", CLASSES)
def test_images_of_one_class_differ_in_many_pixels(class_index):
    first, second = draw_image(0, class_index, 0), draw_image(0, class_index, 1)
    assert (first != second).mean() > 0.3


@pytest.mark.parametrize("class_index", CLASSES)
def test_another_seed_gives_another_image(class_index):
    assert not np.array_equal(draw_image(0, class_index, 0), draw_image(1, class_index, 0))


def test_an_image_does_not_depend_on_earlier_images():
    cases = [(class_index, index) for class_index in CLASSES for index in range(2)]
    forward = {case: draw_image(3, *case).tobytes() for case in cases}
    backward = {case: draw_image(3, *case).tobytes() for case in reversed(cases)}
    assert forward == backward
    assert len(set(forward.values())) == len(cases)


def test_the_three_families_take_turns():
    assert [family_of(class_index) for class_index in range(4)] == [*FAMILIES, FAMILIES[0]]
    assert len(FAMILIES) == 3


def test_labels_are_balanced_over_any_run_of_images():
    labels = labels_of(60, 4)
    assert np.bincount(labels).tolist() == [15] * 4
    assert np.bincount(labels[-8:]).tolist() == [2] * 4


def test_write_images_gives_the_same_file_with_one_and_two_processes(tmp_path: Path):
    shape = {"seed": 5, "images": 450, "classes": 9}
    assert sum(write_images(tmp_path / "one.npy", **shape, processes=1)) == 450
    assert sum(write_images(tmp_path / "two.npy", **shape, processes=2)) == 450
    one, two = np.load(tmp_path / "one.npy"), np.load(tmp_path / "two.npy")
    assert one.shape == (450, SIDE, SIDE, 3)
    assert np.array_equal(one, two)
    assert np.array_equal(one[22], draw_image(5, 22 % 9, 22 // 9))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.npy", "two.npy"]
