import subprocess
import sys

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from tests.paths import REPOSITORY
from trainables.errors import DataError, ResourceError
from trainables.images import file_survey, pixel_map
from trainables.images.file_survey import survey_files
from trainables.images.pixel_map import GREY, map_pixels, open_pixels, square, stored_side


def mapped(paths, **options):
    return map_pixels(paths, survey_files(paths), **{"image_size": 28, "aspect": "crop", **options})


def left_behind(cache):
    return [file for file in cache.rglob("*") if file.is_file() and not file.name.endswith(".lock")]


def test_deep_images_use_the_bits_of_the_whole_set(cache, tmp_path):
    levels = (1000, 4000, 500)
    for level in levels:
        cv2.imwrite(str(tmp_path / f"{level}.png"), np.full((8, 8), level, np.uint16))
    paths = [tmp_path / f"{level}.png" for level in levels]
    assert survey_files(paths).bits == 12
    assert [int(image.max()) for image in mapped(paths).images] == [level >> 4 for level in levels]


def test_pixel_map_holds_every_image(cache, paths):
    calls = []
    found = mapped(paths, on_progress=lambda *call: calls.append(call))
    assert found.images.shape == (31, 32, 32, 3)
    assert found.images.dtype == np.uint8
    assert not found.images.flags.writeable
    assert found.problems == {30: "empty file"}
    assert not found.images[30].any()
    assert [bool(digest) for digest in found.digests] == [True] * 30 + [False]
    assert calls[-1] == (31, 31, "decoding")
    for index, path in enumerate(paths[:30]):
        assert np.array_equal(found.images[index], square(np.asarray(Image.open(path)), 32, "crop"))
    again = open_pixels(found.key)
    assert np.array_equal(again.images, found.images)
    assert (again.digests, again.problems) == (found.digests, found.problems)


def test_a_second_call_decodes_nothing(cache, paths, monkeypatch):
    first = mapped(paths)
    monkeypatch.setattr(pixel_map, "decode", None)
    monkeypatch.setattr(file_survey, "header", None)
    assert mapped(paths).key == first.key
    with pytest.raises(TypeError):
        mapped(paths, image_size=40)


def test_each_size_and_aspect_has_its_own_map(cache, paths):
    keys = {mapped(paths, image_size=size, aspect=aspect).key for size in (28, 40) for aspect in ("crop", "pad", "squash")}
    assert len(keys) == 6


def test_equal_pixels_in_different_formats_have_equal_digests(cache, tmp_path):
    pixels_ = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    for name in ("a.png", "b.bmp", "c.webp"):
        Image.fromarray(pixels_).save(tmp_path / name, lossless=True)
    Image.fromarray(pixels_.reshape(30, 20, 3)).save(tmp_path / "d.png")
    digests = mapped([tmp_path / name for name in ("a.png", "b.bmp", "c.webp", "d.png")]).digests
    assert digests[0] == digests[1] == digests[2] != digests[3]


def test_unknown_and_damaged_maps_are_rejected_and_made_again(cache, paths):
    with pytest.raises(DataError, match="prepare the data set again"):
        open_pixels("0" * 32)
    found = mapped(paths)
    expected = found.images.copy()
    (cache / "pixels" / found.key / "images.npy").write_bytes(b"half")
    with pytest.raises(DataError):
        open_pixels(found.key)
    assert np.array_equal(mapped(paths).images, expected)


def test_map_pixels_rejects_a_map_over_budget_before_decoding(cache, paths, monkeypatch):
    with pytest.raises(ResourceError, match=r"need 95\.2 kB but the budget of 50 kB .* leaves 50 kB"):
        mapped(paths, budget_bytes=50_000)
    monkeypatch.setenv("INJERTO_CACHE_BUDGET", "150kB")
    mapped(paths)
    with pytest.raises(ResourceError, match="INJERTO_CACHE_BUDGET"):
        mapped(paths, aspect="pad")
    assert len(list((cache / "pixels").glob("*/images.npy"))) == 1


RUN = """
import resource, sys
from pathlib import Path
from trainables.errors import ResourceError
from trainables.images.file_survey import survey_files
from trainables.images.pixel_map import map_pixels
paths = sorted(Path(sys.argv[1]).glob("*.png"))
found = survey_files(paths)
if len(sys.argv) > 2:
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)
calls = []
try:
    print(map_pixels(paths, found, image_size=28, aspect="crop", on_progress=lambda *call: calls.append(call)).key, len(calls) > 0)
except ResourceError as error:
    print(error)
"""


def start(folder, *arguments):
    command = [sys.executable, "-c", RUN, str(folder), *arguments]
    return subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_two_processes_decode_once(cache, tmp_path, paths):
    rng = np.random.default_rng(1)
    for index in range(40):
        Image.fromarray(rng.integers(0, 256, (500, 500, 3), np.uint8)).save(tmp_path / f"x{index}.png")
    outputs = [process.communicate(timeout=120) for process in [start(tmp_path), start(tmp_path)]]
    (first, first_worked), (second, second_worked) = (text.split() for text, _ in outputs)
    assert first == second
    assert sorted((first_worked, second_worked)) == ["False", "True"]


def test_a_full_disk_leaves_no_partial_files(cache, tmp_path, paths):
    survey_files(sorted(tmp_path.glob("*.png")))
    before = left_behind(cache)
    output, errors = start(tmp_path, "40000").communicate(timeout=120)
    assert "no space left" in output, errors
    assert left_behind(cache) == before
    assert not list((cache / "pixels").glob("*.partial"))


def test_an_unwritable_cache_is_a_resource_error(tmp_path, paths, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("INJERTO_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(ResourceError, match="INJERTO_CACHE"):
        mapped(paths)


@given(st.integers(2, 60), st.integers(2, 60), st.integers(2, 40), st.sampled_from(["crop", "pad", "squash"]))
def test_square_keeps_a_flat_color(height, width, side, aspect):
    result = square(np.full((height, width, 3), 200, np.uint8), side, aspect)
    assert result.shape == (side, side, 3)
    values = set(np.unique(result).tolist())
    assert values <= ({200, GREY} if aspect == "pad" else {200})
    assert 200 in values


def test_square_crops_pads_or_squashes():
    image = np.zeros((20, 40, 3), np.uint8)
    image[:, :10], image[:, 30:] = (255, 0, 0), (0, 0, 255)
    assert (square(image, 20, "crop") == 0).all()
    padded = square(image, 40, "pad")
    assert (padded[:10] == GREY).all()
    assert (padded[30:] == GREY).all()
    assert np.array_equal(padded[10:30], image)
    squashed = square(image, 20, "squash")
    assert (squashed[:, :4] == (255, 0, 0)).all()
    assert (squashed[:, -4:] == (0, 0, 255)).all()


def test_shrinking_does_not_alias():
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255
    assert np.ptp(square(stripes, 16, "crop")[:, 1:-1].astype(int)) <= 4


@pytest.mark.parametrize("aspect", ["crop", "pad", "squash"])
def test_square_of_a_very_long_image_has_its_size(aspect):
    assert square(np.zeros((2, 40_000, 3), np.uint8), 300, aspect).shape == (300, 300, 3)


@given(st.integers(16, 1024))
def test_stored_side_is_a_seventh_more_than_image_size(image_size):
    assert abs(stored_side(image_size) - image_size * 8 / 7) <= 0.5


def test_square_equals_one_call_of_pillow(tmp_path):
    """So that users of an exported network can make the same pixels as in training."""
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (61, 90, 3), np.uint8))
    assert np.array_equal(square(np.asarray(image), 73, "crop"), np.asarray(ImageOps.fit(image, (73, 73), Image.Resampling.BICUBIC)))
    padded = ImageOps.pad(image, (73, 73), Image.Resampling.BICUBIC, color=(128, 128, 128))
    assert np.array_equal(square(np.asarray(image), 73, "pad"), np.asarray(padded))
