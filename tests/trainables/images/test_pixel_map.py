import subprocess
import sys

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from tests.paths import REPOSITORY
from trainables.errors import ConfigError, DataError, ResourceError
from trainables.images import pixel_map
from trainables.images.pixel_map import GREY, Survey, image_size_rule, map_pixels, open_pixels, square, stored_side, survey
from trainables.storage.cache import parse_bytes, show_bytes

ROOT = REPOSITORY


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("INJERTO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def paths(tmp_path):
    rng = np.random.default_rng(0)
    found = []
    for index in range(30):
        found.append(tmp_path / f"{index}.png")
        Image.fromarray(rng.integers(0, 256, (20 + index, 40, 3), np.uint8)).save(found[-1])
    found.append(tmp_path / "bad.png")
    found[-1].write_bytes(b"")
    return found


def mapped(paths, **options):
    return map_pixels(paths, survey(paths), **{"image_size": 28, "aspect": "crop", **options})


def left_behind(cache):
    return [file for file in cache.rglob("*") if file.is_file() and not file.name.endswith(".lock")]


def test_survey(cache, paths):
    found = survey(paths)
    assert found.sizes[0].tolist() == [40, 20]
    assert found.problems == {30: "empty file"}
    assert found.bits == 8
    assert found.median_side == 34
    assert len(set(found.hashes)) == 31
    assert survey(paths).key == found.key
    paths[0].write_bytes(paths[1].read_bytes())
    assert survey(paths).key != found.key
    assert survey(paths).hashes[0] == found.hashes[1]


def test_bits_come_from_the_whole_set_so_that_images_stay_comparable(cache, tmp_path):
    levels = (1000, 4000, 500)
    for level in levels:
        cv2.imwrite(str(tmp_path / f"{level}.png"), np.full((8, 8), level, np.uint16))
    paths = [tmp_path / f"{level}.png" for level in levels]
    assert survey(paths).bits == 12
    assert [int(image.max()) for image in mapped(paths).images] == [level >> 4 for level in levels]


@pytest.mark.parametrize(
    ("side", "weights", "expected"),
    [(8, "builtin", 64), (64, "none", 64), (65, "builtin", 96), (2000, "my.safetensors", 96)]
    + [(8, "imagenet", 96), (97, "imagenet", 128), (128, "imagenet", 128), (200, "imagenet", 224), (2000, "imagenet", 224)],
)
def test_image_size_rule(side, weights, expected):
    sizes = np.array([[side, 5000], [side, side], [0, 0]])
    assert image_size_rule(Survey(("", "", ""), np.zeros(3, np.int64), 8, {2: "bad"}, sizes), weights) == expected


def test_the_map_holds_every_image(cache, paths):
    calls = []
    found = mapped(paths, progress=lambda *call: calls.append(call))
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


def test_a_second_search_decodes_nothing(cache, paths, monkeypatch):
    first = mapped(paths)
    monkeypatch.setattr(pixel_map, "decode", None)
    monkeypatch.setattr(pixel_map, "header", None)
    assert mapped(paths).key == first.key
    with pytest.raises(TypeError):
        mapped(paths, image_size=40)


def test_size_and_aspect_have_maps_of_their_own(cache, paths):
    keys = {mapped(paths, image_size=size, aspect=aspect).key for size in (28, 40) for aspect in ("crop", "pad", "squash")}
    assert len(keys) == 6


def test_the_same_pixels_in_other_files_have_one_digest(cache, tmp_path):
    pixels_ = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    for name in ("a.png", "b.bmp", "c.webp"):
        Image.fromarray(pixels_).save(tmp_path / name, lossless=True)
    Image.fromarray(pixels_.reshape(30, 20, 3)).save(tmp_path / "d.png")
    digests = mapped([tmp_path / name for name in ("a.png", "b.bmp", "c.webp", "d.png")]).digests
    assert digests[0] == digests[1] == digests[2] != digests[3]


def test_unknown_and_damaged_maps(cache, paths):
    with pytest.raises(DataError, match="prepare the data set again"):
        open_pixels("0" * 32)
    found = mapped(paths)
    expected = found.images.copy()
    (cache / "pixels" / found.key / "images.npy").write_bytes(b"half")
    with pytest.raises(DataError):
        open_pixels(found.key)
    assert np.array_equal(mapped(paths).images, expected)


def test_over_budget_is_refused_before_any_work(cache, paths, monkeypatch):
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
from trainables.images.pixel_map import map_pixels, survey
paths = sorted(Path(sys.argv[1]).glob("*.png"))
found = survey(paths)
if len(sys.argv) > 2:
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)
calls = []
try:
    print(map_pixels(paths, found, image_size=28, aspect="crop", progress=lambda *call: calls.append(call)).key, len(calls) > 0)
except ResourceError as error:
    print(error)
"""


def start(folder, *arguments):
    command = [sys.executable, "-c", RUN, str(folder), *arguments]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_two_processes_decode_once(cache, tmp_path, paths):
    rng = np.random.default_rng(1)
    for index in range(40):
        Image.fromarray(rng.integers(0, 256, (500, 500, 3), np.uint8)).save(tmp_path / f"x{index}.png")
    outputs = [process.communicate(timeout=120) for process in [start(tmp_path), start(tmp_path)]]
    (first, first_worked), (second, second_worked) = (text.split() for text, _ in outputs)
    assert first == second
    assert sorted((first_worked, second_worked)) == ["False", "True"]


def test_a_full_disk_leaves_nothing_half_written(cache, tmp_path, paths):
    survey(sorted(tmp_path.glob("*.png")))
    before = left_behind(cache)
    output, errors = start(tmp_path, "40000").communicate(timeout=120)
    assert "no space left" in output, errors
    assert left_behind(cache) == before
    assert not list((cache / "pixels").glob("*.partial"))


def test_an_unwritable_cache_says_so(tmp_path, paths, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("INJERTO_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(ResourceError, match="INJERTO_CACHE"):
        mapped(paths)


@given(st.integers(2, 60), st.integers(2, 60), st.integers(2, 40), st.sampled_from(["crop", "pad", "squash"]))
def test_squares_keep_a_flat_color(height, width, side, aspect):
    result = square(np.full((height, width, 3), 200, np.uint8), side, aspect)
    assert result.shape == (side, side, 3)
    values = set(np.unique(result).tolist())
    assert values <= ({200, GREY} if aspect == "pad" else {200})
    assert 200 in values


def test_aspects():
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


def test_very_long_images_take_little_memory():
    assert square(np.zeros((2, 40_000, 3), np.uint8), 300, "crop").shape == (300, 300, 3)


@given(st.integers(16, 1024))
def test_stored_side_is_a_seventh_more(image_size):
    assert abs(stored_side(image_size) - image_size * 8 / 7) <= 0.5


@pytest.mark.parametrize(("text", "count"), [("20GB", 20 * 10**9), ("1.5 kB", 1500), ("7", 7), ("1e9", 10**9), ("2 MiB", 2_000_000)])
def test_budgets_in_words(text, count):
    assert parse_bytes(text) == count


def test_what_is_no_budget():
    with pytest.raises(ConfigError, match="INJERTO_CACHE_BUDGET"):
        parse_bytes("plenty")
    assert show_bytes(1_500_000_000) == "1.5 GB"


def test_a_square_is_one_call_of_pillow(tmp_path):
    """Who uses an exported network can make the very pixels that it was trained on."""
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (61, 90, 3), np.uint8))
    assert np.array_equal(square(np.asarray(image), 73, "crop"), np.asarray(ImageOps.fit(image, (73, 73), Image.Resampling.BICUBIC)))
    padded = ImageOps.pad(image, (73, 73), Image.Resampling.BICUBIC, color=(128, 128, 128))
    assert np.array_equal(square(np.asarray(image), 73, "pad"), np.asarray(padded))
