"""From a manifest a node makes the same pixels as the driver, or names the file that has changed."""

import gzip
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.paths import REPOSITORY
from trainables.config import DataConfig, TrialConfig
from trainables.data.dataset import open_dataset, prepare
from trainables.data.manifest import prepare_from_manifest, read_manifest, sample_check, write_manifest
from trainables.data.source_options import SourceOptions
from trainables.errors import DamagedError, DataError, ResourceError, StorageError
from trainables.images import decode, pixel_map
from trainables.images.file_survey import survey_files
from trainables.storage.locations import join, split_location
from trainables.storage.root import Root
from trainables.worker.assignment import Assignment, open_data


@pytest.fixture(autouse=True)
def driver(tmp_path, monkeypatch):
    monkeypatch.setenv("INJERTO_CACHE", str(tmp_path / "driver"))
    return tmp_path / "driver"


@pytest.fixture
def node(tmp_path, monkeypatch):
    """Each call goes to another node: one with an empty cache, which it returns."""
    nodes = iter(range(1, 100))

    def go_to_next_node():
        folder = tmp_path / f"node{next(nodes)}"
        monkeypatch.setenv("INJERTO_CACHE", str(folder))
        return folder

    return go_to_next_node


@pytest.fixture
def photos(tmp_path):
    root = tmp_path / "photos"
    for index in range(40):
        path = root / "ab"[index % 2] / f"{index} ü.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        values = np.random.default_rng(index).integers(0, 4096, (12 + index % 5, 14, 3))
        if index % 10 == 3:
            cv2.imwrite(str(path), values.astype(np.uint16))
        else:
            Image.fromarray((values >> 4).astype(np.uint8)).save(path)
    (root / "a" / "empty.jpg").write_bytes(b"")
    whole = (root / "a" / "0 ü.png").read_bytes()
    (root / "a" / "half.png").write_bytes(whole[: len(whole) // 2])  # its header can be read
    return root


@pytest.fixture(params=["folder", "bucket"])
def source(request, photos):
    if request.param == "folder":
        return str(photos)
    url = join(request.getfixturevalue("bucket"), "photos")
    for path in photos.rglob("*.*"):
        Root(url).write(path.relative_to(photos).as_posix(), path.read_bytes())
    return url


@pytest.fixture
def place(tmp_path):
    return str(tmp_path / "study" / "data.json.gz")


def files(cache):
    return {path.relative_to(cache).as_posix(): path.read_bytes() for path in cache.rglob("*") if path.is_file()}


def kept(cache):
    """Return the files of data sets and pixels in a cache, by name."""
    return {name: data for name, data in files(cache).items() if name.split("/")[0] in ("pixels", "datasets") and "lock" not in name}


def nothing_kept(cache):
    return not kept(cache) and not list(cache.rglob("*.partial"))


def assignment(dataset, place, data):
    return Assignment(
        number=0,
        trial=TrialConfig(image_size=dataset.image_size),
        data=data,
        task=dataset.task,
        fingerprint=dataset.fingerprint,
        metric="accuracy",
        folder="unused",
        manifest=place,
    )


def put(source, name, data):
    Root(source).write(name, data)


def test_a_node_makes_the_same_cache_files_as_the_driver(source, place, driver, node):
    dataset = prepare(source=source, image_size=32)
    write_manifest(dataset, place)
    cache, calls = node(), []
    again = prepare_from_manifest(place, 32, "crop", on_progress=lambda *call: calls.append(call))
    assert kept(cache) == kept(driver)
    assert not (cache / "mirrors").exists()
    assert calls[-1] == (42, 42, "decoding")
    assert np.array_equal(again.images, dataset.images)
    assert again.targets.dtype == dataset.targets.dtype
    for name in ("task", "classes", "names", "image_size", "aspect", "pixels_key", "bits", "median_side", "notes", "fingerprint"):
        assert getattr(again, name) == getattr(dataset, name)
    assert open_dataset(dataset.fingerprint, 32, "crop").pixels_key == dataset.pixels_key
    assert again.bits == 12
    shutil.move(source, source + " is gone") if not source.startswith("s3:") else Root(source).remove("a/0 ü.png")
    assert np.array_equal(prepare_from_manifest(place).images, dataset.images)


def test_prepare_from_manifest_makes_other_sizes_and_aspects(photos, place, node):
    write_manifest(prepare(source=str(photos), image_size=32), place)
    node()
    assert np.array_equal(prepare_from_manifest(place, 48, "pad").images, prepare(source=str(photos), image_size=48, aspect="pad").images)


def test_each_node_writes_the_built_in_digits_itself(place, driver, node):
    dataset = prepare(source="builtin:digits", image_size=16)
    assert write_manifest(dataset, place).origin.location == "builtin:digits"
    cache = node()
    sample_check(place)
    prepare_from_manifest(place)
    assert kept(cache) == kept(driver)


def test_a_table_with_images_outside_of_its_folder(photos, place, driver, node):
    rows = [f"{path},{index % 3}" for index, path in enumerate(sorted(photos.rglob("*.png")))]
    (photos.parent / "tables").mkdir()
    (photos.parent / "tables" / "labels.csv").write_text("\n".join(["image,label", *rows, rows[0][:-1] + "1"]))
    source = str(photos.parent / "tables" / "labels.csv")
    dataset = prepare(source, SourceOptions(outside_paths=True), image_size=16)
    write_manifest(dataset, place)
    cache = node()
    with pytest.raises(DataError, match=r"42 of 42 images are outside of .*tables: .*/photos/a/0 ü\.png, .*--set data\.outside_paths=true"):
        prepare_from_manifest(place)
    with pytest.raises(DataError, match="are outside of"):
        open_data(assignment(dataset, place, DataConfig(source=source)))
    assert nothing_kept(cache)
    assert any(name.endswith("#2") for name in prepare_from_manifest(place, outside_paths=True).names)
    assert kept(cache) == kept(driver)
    node()
    assert open_data(assignment(dataset, place, DataConfig(source=source, outside_paths=True))).names == dataset.names


@pytest.mark.parametrize("path", ["../elsewhere/x.png", "a/../../x.png", ".."])
def test_paths_that_climb_out_of_the_data_are_refused(photos, place, node, path):
    written = write_manifest(prepare(source=str(photos), image_size=16), place)
    climbing = replace(written, origin=replace(written.origin, paths=(path, *written.origin.paths[1:])))
    node()
    with pytest.raises(DataError, match=r"1 of 42 images are outside of .*photos"):
        prepare_from_manifest(climbing)


@pytest.mark.skipif(sys.platform != "linux", reason="file names of any bytes are Linux's")
def test_file_names_that_are_not_utf8_are_kept(photos, place, driver, node):
    os.rename(os.fsencode(photos / "b"), os.fsencode(photos) + b"/caf\xe9")
    write_manifest(prepare(source=str(photos), image_size=16), place)
    cache = node()
    prepare_from_manifest(place)
    assert kept(cache) == kept(driver)


def test_write_manifest_rewrites_damaged_files_only(photos, place):
    dataset = prepare(source=str(photos), image_size=16)

    def times():
        return {path.name: path.stat().st_mtime_ns for path in Path(place).parent.iterdir()}

    write_manifest(dataset, place, pack_bytes=10**6)
    before = times()
    assert sorted(before) == ["data.json.gz", "data.npy"]
    write_manifest(prepare(source=str(photos), image_size=16), place, pack_bytes=10**6)
    assert times() == before
    (Path(place).parent / "data.npy").write_bytes(b"half")
    Path(place).write_bytes(b"half")
    write_manifest(dataset, place, pack_bytes=10**6)
    sample_check(place)
    assert not {*before.items()} & {*times().items()}


# Changed files and versions


def spoil(source, name, data):
    if data is None:
        Root(source).remove(name)
    else:
        Root(source).write(name, data)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda data: None, r"a/0 ü.png cannot be read \(.*\) but held {length} bytes when the data set was prepared; put the file back"),
        (lambda data: data + b"1", r"a/0 ü.png holds {more} bytes but held {length} when"),
        (
            lambda data: data[:-1] + b"1",
            r"a/0 ü.png holds other bytes \(hash [0-9a-f]{{12}}\) than when .*; put the file back as it was, or start",
        ),
    ],
)
def test_a_changed_file_is_named(source, place, node, change, words):
    dataset = prepare(source=source, image_size=16)
    write_manifest(dataset, place)
    data = Root(source).read("a/0 ü.png")
    spoil(source, "a/0 ü.png", change(data))
    cache = node()
    pattern = "on .*, in .*photos.*: " + words.format(length=f"{len(data):,}", more=f"{len(data) + 1:,}")
    for check in (prepare_from_manifest, sample_check):
        with pytest.raises(DataError, match=pattern):
            check(place)
    assert nothing_kept(cache)
    spoil(source, "a/0 ü.png", data)
    sample_check(place)
    assert np.array_equal(prepare_from_manifest(place).images, dataset.images)


def test_images_unreadable_on_the_driver_stay_left_out_on_nodes(photos, place, driver, node):
    write_manifest(prepare(source=str(photos), image_size=16), place)
    (photos / "a" / "empty.jpg").write_bytes((photos / "a" / "2 ü.png").read_bytes())
    (photos / "a" / "half.png").unlink()
    cache = node()
    sample_check(place, 100)
    prepare_from_manifest(place)
    assert kept(cache) == kept(driver)


def test_a_file_that_only_this_node_cannot_decode_is_an_error(photos, place, node, monkeypatch):
    """A limit stands for a node with too little memory. An image that the driver could read is never left out silently."""
    write_manifest(prepare(source=str(photos), image_size=16), place)
    cache = node()
    monkeypatch.setattr("trainables.images.decode.MOST_PIXELS", 200)
    with pytest.raises(
        DataError, match=r"cannot be decoded on this node \(over 100 megapixels\), though it could be where the data set was prepared"
    ):
        prepare_from_manifest(place)
    assert nothing_kept(cache)


def test_a_file_that_decodes_to_other_pixels_is_an_error(photos, place, node, monkeypatch):
    """Orientation is ignored here, in place of a library below Pillow that decodes differently, which versions do not show."""
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.open(photos / "b" / "1 ü.png").save(photos / "b" / "1 ü.png", exif=exif)
    write_manifest(prepare(source=str(photos), image_size=16), place)
    cache = node()
    monkeypatch.setattr("trainables.images.decode.TURNS", {})
    with pytest.raises(DataError, match=r"b/1 ü.png decodes to other pixels .*; install them from the same packages on every node"):
        prepare_from_manifest(place)
    assert nothing_kept(cache)


def test_map_pixels_rejects_a_file_that_changed_after_the_survey(photos):
    paths = sorted(photos.rglob("*.png"))
    found = survey_files(paths)
    paths[0].write_bytes(paths[1].read_bytes())
    with pytest.raises(DataError, match="when the data set was prepared"):
        pixel_map.map_pixels(paths, found, image_size=16, aspect="crop")


def test_a_folder_that_is_missing_on_a_node_is_named(photos, place, node):
    write_manifest(prepare(source=str(photos), image_size=16), place)
    photos.rename(photos.with_name("elsewhere"))
    node()
    for check in (prepare_from_manifest, sample_check):
        with pytest.raises(DataError, match=r"in .*photos: there is no such folder; mount it on every node .* or name a bucket"):
            check(place)


def test_other_decoder_versions_are_rejected_by_name(photos, place, node, monkeypatch):
    write_manifest(prepare(source=str(photos), image_size=16), place)
    ours = decode.DECODER_VERSION.split()
    node()
    monkeypatch.setattr(decode, "DECODER_VERSION", f"{ours[0]} 1.2.3 {ours[2]}")
    words = rf"would make other pixels .*: Pillow 1\.2\.3 here but {ours[1]} there; install the same versions on every node"
    for check in (prepare_from_manifest, sample_check):
        with pytest.raises(DataError, match=words) as caught:
            check(place)
        assert "OpenCV" not in str(caught.value)


def test_sample_check_reads_the_first_the_last_and_some_between(photos, place):
    written = write_manifest(prepare(source=str(photos), image_size=16), place)
    paths = written.origin.paths
    for path in paths[2:-2]:
        (photos / path).unlink()
    sample_check(place, 2)
    with pytest.raises(DataError, match="cannot be read"):
        sample_check(place, 3)
    (photos / paths[-1]).write_bytes(b"1")
    with pytest.raises(DataError, match=f"{paths[-1]} holds 1 bytes"):
        sample_check(place, 2)


def test_a_missing_manifest_and_an_opened_data_set_are_rejected(photos, place):
    with pytest.raises(StorageError, match=r"there is no manifest at .*; resume the search, which writes it again"):
        prepare_from_manifest(place)
    dataset = prepare(source=str(photos), image_size=16)
    write_manifest(dataset, place)
    with pytest.raises(DataError, match="was opened from a cache, which does not know its files; prepare it first"):
        write_manifest(open_dataset(dataset.fingerprint, 16, "crop"), place)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    place = str(tmp_path_factory.mktemp("study") / "data.json.gz")
    write_manifest(prepare(source="builtin:digits", image_size=16), place)
    return place


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_read_manifest_rejects_damaged_files(written, tmp_path, data):
    whole = Path(written).read_bytes()
    document = json.loads(gzip.decompress(whole))
    kind = data.draw(st.sampled_from(["cut", "flip", "other", "missing", "wrong"]))
    if kind == "cut":
        spoiled = whole[: data.draw(st.integers(0, len(whole) - 1))]
    elif kind == "flip":
        place = data.draw(st.integers(10, len(whole) - 1))
        spoiled = whole[:place] + bytes([whole[place] ^ 1 << data.draw(st.integers(0, 7))]) + whole[place + 1 :]
    elif kind == "other":
        spoiled = gzip.compress(json.dumps(data.draw(st.none() | st.integers() | st.lists(st.text()) | st.just({"format": 2}))).encode())
    else:
        key = data.draw(
            st.sampled_from(["format", "facts", "paths", "lengths", "hashes", "digests", "problems", "location", "fingerprint"])
        )
        removed = {name: value for name, value in document.items() if name != key}
        spoiled = gzip.compress(
            json.dumps(removed if kind == "missing" or key in ("location", "fingerprint") else removed | {key: 3}).encode()
        )
    path = tmp_path / "spoiled.json.gz"
    path.write_bytes(spoiled)
    with pytest.raises(DamagedError, match=r"is not a manifest of this version .*; resume the search"):
        read_manifest(str(path))


# Packed images


@pytest.fixture(params=["folder", "bucket"])
def study(request, tmp_path):
    folder = str(tmp_path / "study") if request.param == "folder" else join(request.getfixturevalue("bucket"), "study")
    return join(folder, "data.json.gz")


def test_packed_images_serve_nodes_that_have_no_image_files(photos, study, driver, node):
    dataset = prepare(source=str(photos), image_size=32)
    assert write_manifest(dataset, study, pack_bytes=dataset.images.nbytes - 1).pack is None
    assert write_manifest(dataset, study, pack_bytes=dataset.images.nbytes).pack is not None
    shutil.rmtree(photos)
    cache = node()
    sample_check(study)
    assert np.array_equal(prepare_from_manifest(study).images, dataset.images)
    assert kept(cache) == kept(driver)
    with pytest.raises(DataError, match="there is no such folder"):
        prepare_from_manifest(study, 48, "crop")
    root, _ = split_location(study)
    data = Root(root).read("data.npy")
    for spoiled, words in (
        (None, "there is no data.npy in|holds 0 bytes"),
        (data[:-1], "holds other images|bytes but should"),
        (data[:-1] + bytes([data[-1] ^ 1]), "holds other images"),
    ):
        spoil(root, "data.npy", spoiled)
        cache = node()
        with pytest.raises(DataError, match=f"({words}).*; resume the search, which writes it again"):
            prepare_from_manifest(study)
        if spoiled is None or len(spoiled) != len(data):
            with pytest.raises(DataError, match=words):
                sample_check(study)
        assert nothing_kept(cache)


# Several processes, and too little space

RUN = """
import os, sys
from trainables.errors import ResourceError
from trainables.data.manifest import prepare_from_manifest
calls = []
def progress(done, total, what):
    calls.append(done)
    if len(sys.argv) > 2:
        os._exit(9)
print(prepare_from_manifest(sys.argv[1], on_progress=progress).pixels_key, len(calls) > 0)
"""


def start(*arguments):
    return subprocess.Popen([sys.executable, "-c", RUN, *arguments], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)


def test_two_processes_decode_once_and_a_killed_one_leaves_no_entry(source, place, driver, node):
    dataset = prepare(source=source, image_size=224)
    write_manifest(dataset, place)
    cache = node()
    killed = start(place, "killed")
    killed.communicate(timeout=120)
    assert killed.returncode == 9
    assert not [name for name in kept(cache) if not name.startswith("pixels/.")]
    lines = [process.communicate(timeout=120)[0].split() for process in [start(place), start(place)]]
    assert [key for key, _ in lines] == [dataset.pixels_key] * 2
    assert sorted(worked for _, worked in lines) == ["False", "True"]
    assert kept(cache) == kept(driver)


def test_prepare_from_manifest_rejects_images_over_budget_before_decoding(photos, place, node):
    write_manifest(prepare(source=str(photos), image_size=32), place, pack_bytes=10**6)
    cache = node()
    with pytest.raises(ResourceError, match=r"42 images of 37 × 37 pixels need .* but the budget"):
        prepare_from_manifest(place, budget_bytes=1000)
    assert nothing_kept(cache)


# In a trial


def test_a_trial_on_another_node_uses_the_manifest(photos, place, node):
    dataset = prepare(source=str(photos), image_size=32)
    write_manifest(dataset, place)
    job = assignment(dataset, place, DataConfig(source="nowhere"))
    node()
    assert np.array_equal(open_data(job).images, dataset.images)
    Path(place).unlink()
    assert open_data(job).names == dataset.names
    (photos / "a" / "0 ü.png").unlink()
    write_manifest(prepare(source=str(photos), image_size=32), place)
    node()
    with pytest.raises(DataError, match="have changed since the search began"):
        open_data(job)


def test_a_trial_with_another_decoder_says_so(photos):
    dataset = prepare(source=str(photos), image_size=32)
    job = assignment(dataset, None, DataConfig(source=str(photos)))
    assert open_data(job).fingerprint == dataset.fingerprint
    upgraded = job.model_copy(update={"fingerprint": dataset.fingerprint[:16] + "0" * 8})
    with pytest.raises(DataError, match=r"may be decoded to other pixels than when the search began: .*; start a new search"):
        open_data(upgraded)


@pytest.fixture(scope="module")
def digits_manifest(own_cache, tmp_path_factory):
    """The content of a manifest of the built-in digits."""
    place = tmp_path_factory.mktemp("digits") / "data.json.gz"
    write_manifest(prepare(source="builtin:digits", image_size=16), str(place))
    return place.read_bytes()


@pytest.mark.parametrize(
    ("where", "key", "value"),
    [
        ("", "fingerprint", "../../../escaped"),
        ("", "version", None),
        ("", "image_size", -5),
        ("", "image_size", "32"),
        ("", "aspect", "odd"),
        ("", "location", None),
        ("", "problems", {"999999": "odd"}),
        ("", "pack", {"key": 5, "length": 1, "hash": ""}),
        ("facts", "task", "odd"),
        ("facts", "classes", 3),
        ("facts", "rows", {"train": [999_999]}),
        ("facts", "groups", [0, 1]),
    ],
)
def test_invalid_values_are_named_and_nothing_is_written(where, key, value, tmp_path, digits_manifest, node):
    place = tmp_path / "data.json.gz"
    document = json.loads(gzip.decompress(digits_manifest))
    (document[where] if where else document)[key] = value
    place.write_bytes(gzip.compress(json.dumps(document).encode()))
    cache = node()
    with pytest.raises(DamagedError, match=f"invalid {key}"):
        prepare_from_manifest(str(place))
    assert nothing_kept(cache)


def test_read_manifest_rejects_deeply_nested_json(tmp_path):
    place = tmp_path / "data.json.gz"
    place.write_bytes(gzip.compress(b"[" * 300_000))
    with pytest.raises(DamagedError, match="is not a manifest"):
        read_manifest(str(place))
