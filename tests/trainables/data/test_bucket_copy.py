"""A bucket as the source of images, on a real S3 server: it gives the same data set as the same files in a folder."""

import os
import re
import time

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from trainables.data import bucket_copy
from trainables.data.bucket_copy import copy_bucket
from trainables.data.dataset import prepare
from trainables.data.source_options import SourceOptions
from trainables.data.sources import read_source
from trainables.errors import DataError, ResourceError, StorageError
from trainables.storage.atomic_write import temporary_path
from trainables.storage.keys import StoredFile
from trainables.storage.locations import join
from trainables.storage.root import Root


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("INJERTO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def picture(path, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (12, 12, 3), np.uint8)).save(path, format="PNG")


@pytest.fixture
def photos(tmp_path):
    for index in range(24):
        picture(tmp_path / "photos" / "ab"[index % 2] / f"{index} ü+%.png", index)
    return tmp_path / "photos"


def upload(folder, url):
    root = Root(url)
    for path in folder.rglob("*"):
        if path.is_file():
            root.write(path.relative_to(folder).as_posix(), path.read_bytes())
    return url


def assert_same(one, other):
    assert one.fingerprint == other.fingerprint
    assert one.names == other.names
    assert one.classes == other.classes
    assert np.array_equal(one.images, other.images)
    assert np.array_equal(one.targets, other.targets)
    assert all(np.array_equal(one.rows[part], rows) for part, rows in other.rows.items())


def test_a_bucket_gives_the_same_data_set_as_the_folder(photos, bucket, cache):
    url = upload(photos, join(bucket, "some/photos"))
    calls = []
    found = prepare(source=url, on_progress=lambda *call: calls.append(call))
    assert (24, 24, "fetching") in calls
    there = found.origin
    assert there.location == url
    assert sorted(there.paths) == sorted(path.relative_to(photos).as_posix() for path in photos.rglob("*.png"))
    for path, length in zip(there.paths, there.contents.lengths, strict=True):
        assert Root(url).size(path) == length
    assert_same(found, prepare(source=str(photos)))
    assert_same(found, prepare(source=url.replace("?", "/?")))
    assert len([entry for entry in (cache / "mirrors").iterdir() if entry.is_dir()]) == 1


@pytest.mark.parametrize("folder", [None, "images"])
@pytest.mark.parametrize("named", [True, False])
def test_a_table_in_a_bucket_gives_the_same_data_set_as_in_a_folder(photos, bucket, folder, named):
    home = photos.parent / "home"
    images = home / (folder or "")
    images.parent.mkdir(exist_ok=True)
    photos.rename(images)
    rows = [f"{path.relative_to(images).as_posix()},{index % 3}" for index, path in enumerate(sorted(images.rglob("*.png")))]
    (home / "labels.csv").write_text("\n".join(["image,label", *rows]))
    url = upload(home, join(bucket, "home"))
    options = SourceOptions(image_folder=folder)
    found = prepare(source=join(url, "labels.csv") if named else url, options=options)
    assert_same(found, prepare(source=str(home / "labels.csv"), options=options))
    assert found.origin.location == url
    assert found.origin.paths == tuple(f"{folder}/{name}" if folder else name for name in found.names)


def test_only_new_and_changed_objects_are_fetched(photos, bucket):
    url = upload(photos, join(bucket, "photos"))
    calls = []

    def fetched():
        calls.clear()
        copy = copy_bucket(url, lambda *call: calls.append(call))
        there, here = Root(url).files(), Root(copy.folder).files()
        assert sorted(there) == sorted(here)
        assert all((copy.folder / file.key).read_bytes() == Root(url).read(file.key) for file in there)
        return calls[-1][1] if calls else 0

    assert fetched() == 24
    assert fetched() == 0
    Root(url).write("a/new.png", b"new")
    Root(url).write("b/1 ü+%.png", b"other bytes")
    for index in range(0, 24, 2):
        Root(url).remove(f"a/{index} ü+%.png")
    assert fetched() == 2
    Root(url).remove("a/new.png")
    assert fetched() == 0
    assert not (copy_bucket(url).folder / "a").exists()
    Root(url).write("a", b"a file where a folder was")
    assert fetched() == 1
    Root(url).remove("a")
    Root(url).write("a/x", b"and a folder where a file was")
    assert fetched() == 1
    time.sleep(1.1)  # the server gives times in whole seconds
    Root(url).write("a/x", b"and as many bytes, but others")
    assert fetched() == 1


def test_truncated_and_foreign_files_in_the_copy_are_replaced(photos, bucket):
    url = upload(photos, join(bucket, "photos"))
    folder = copy_bucket(url).folder
    victim = folder / "a" / "0 ü+%.png"
    victim.write_bytes(victim.read_bytes()[:10])
    temporary_path(folder / "object").write_bytes(b"half")
    (folder / "b" / "stranger").write_bytes(b"1")
    copy_bucket(url)
    assert sorted(Root(url).files()) == sorted(Root(folder).files())


KEYS = st.lists(st.sampled_from(["a", "b", "..", ".", "", "c\\d", "e", "ü"]), min_size=1, max_size=3).map("/".join)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(keys=st.sets(KEYS, min_size=1, max_size=6))
def test_checked_objects_stay_inside_the_copy(tmp_path, keys):
    files = [StoredFile(key, 1, 0) for key in keys]
    folder = tmp_path / "copy"
    try:
        bucket_copy._check_objects(Root("s3://bucket"), files)
    except DataError:
        assert any(set(key.split("/")) & {"", ".", "..", "c\\d"} or any(other.startswith(f"{key}/") for other in keys) for key in keys)
        return
    paths = [os.path.normpath(folder / key) for key in keys]
    assert all(path.startswith(f"{folder}/") for path in paths)
    assert not any(other.startswith(f"{path}/") for path in paths for other in paths)


@pytest.mark.parametrize("key", ["../evil.png", "a//b.png", "./c.png", "back\\slash.png"])
def test_copy_bucket_rejects_keys_that_lead_out(photos, bucket, bucket_server, key, cache):
    import boto3

    url = upload(photos, join(bucket, "photos"))
    host = re.search("endpoint_override=([^&]*)", bucket_server)[1]
    client = boto3.client("s3", endpoint_url=host, region_name="us-east-1")
    client.put_object(Bucket=re.search("//([^?]*)", bucket)[1], Key=f"photos/{key}", Body=b"x")
    with pytest.raises(DataError, match=r"holds objects that cannot be files in a folder: .*; rename or remove them"):
        copy_bucket(url)
    assert not [path for path in cache.rglob("*") if path.is_file() and not path.name.endswith(".lock")]


def test_errors_name_the_bucket_and_not_its_copy(photos, bucket, cache):
    url = upload(photos, join(bucket, "photos"))
    Root(join(bucket, "flat")).write("a.png", b"1")
    for source, options, words in (
        (join(bucket, "nothing"), {}, r"there is nothing at s3://.*/nothing\?.*check the name"),
        (join(bucket, "flat"), {}, r"s3://.*/flat\?.* holds images but no folders"),
        (url, {"classes": ("c", "a")}, "classes names 'c'"),
        (url, {"image_folder": "../other"}, r"data.image_folder '../other' is not inside s3://"),
        (url, {"image_folder": "s3://other/images"}, "is not inside s3://"),
    ):
        with pytest.raises(DataError, match=words) as caught:
            read_source(source, SourceOptions(**options))
        assert str(cache) not in str(caught.value)


def test_unreadable_buckets_are_storage_errors(bucket):
    from moto.core import set_initial_no_auth_action_count

    for source, words in (
        (bucket.replace("bucket-", "absent-", 1), "there is no such bucket; make it first, or name another"),
        ("http://host/photos", "'http://host/photos' cannot be a data source; name a folder, or a bucket"),
        (bucket.replace("//", "//user:secret@", 1), "the data source .* holds a password or a key"),
        (f"{bucket}&nonsense=1", "cannot be used: Unexpected query parameter"),
    ):
        with pytest.raises(StorageError, match=words) as caught:
            prepare(source=source)
        assert "secret" not in str(caught.value)
    with pytest.raises(StorageError, match="the credentials are refused; set AWS_ACCESS_KEY_ID"):
        set_initial_no_auth_action_count(0)(copy_bucket)(join(bucket, "a"))
    with pytest.raises(StorageError, match="does not answer as it should; check that it runs"):
        copy_bucket("s3://bucket/a?endpoint_override=http://127.0.0.1:9&region=us-east-1")


def test_copy_bucket_rejects_a_bucket_over_budget_before_fetching(photos, bucket, monkeypatch):
    url = upload(photos, join(bucket, "photos"))
    monkeypatch.setenv("INJERTO_CACHE_BUDGET", "2kB")
    with pytest.raises(ResourceError, match=r"24 files of s3://.* need .* or name a smaller part of the bucket"):
        copy_bucket(url)
    monkeypatch.delenv("INJERTO_CACHE_BUDGET")
    assert len(Root(copy_bucket(url).folder).files()) == 24
