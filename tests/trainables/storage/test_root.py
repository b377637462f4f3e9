"""One contract over a folder and a real S3 server, and the errors of each."""

import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

from tests.paths import REPOSITORY
from trainables.errors import ResourceError, StorageError
from trainables.storage.atomic_write import temporary_path
from trainables.storage.locations import join
from trainables.storage.root import Root, discard, probe, size_of
from trainables.training.checkpoint import export_weights, load_state, save_state

OUTWARD = ("", ".", "..", "../x", "a/../../x", "/etc/passwd", "a//b", "a/", "./a", "a\\..\\x", "a\0b")


@pytest.fixture(params=["folder", "bucket"])
def location(request, tmp_path):
    return str(tmp_path / "some" / "root") if request.param == "folder" else join(request.getfixturevalue("bucket"), "some/root")


@pytest.fixture
def root(location):
    return Root(location)


# What a folder and a bucket have in common


def test_read_returns_what_was_written(root):
    for data in (b"first", b"", bytes(range(256)) * 40_000):
        root.write("trials/00001/last.pt", data)
        assert root.read("trials/00001/last.pt") == data
        assert root.size("trials/00001/last.pt") == len(data)
        assert root.exists("trials/00001/last.pt")


@pytest.mark.parametrize("ending", ["gz", "bz2", "lz4", "zst"])
def test_content_does_not_depend_on_the_key_s_ending(root, tmp_path, ending):
    root.write(f"a.{ending}", b"plain")
    assert (root.read(f"a.{ending}"), root.size(f"a.{ending}")) == (b"plain", 5)
    assert root.fetch(f"a.{ending}", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == b"plain"


def test_keys_without_content_are_read_as_none(root):
    root.write("a/b", b"1")
    for key in ("x", "a", "a/x", "a/b/c"):
        assert (root.exists(key), root.size(key), root.read(key), root.open(key)) == (False, None, None, None)
        root.remove(key)
    assert root.read("a/b") == b"1"


def test_an_empty_root_has_no_names(root):
    assert root.names() == []
    assert root.read("x") is None


def test_remove_removes_one_key(root):
    root.write("a/b", b"1")
    root.write("a/c", b"2")
    root.remove("a/b")
    assert (root.read("a/b"), root.read("a/c")) == (None, b"2")


def test_names_are_the_first_parts_of_keys(root):
    for key in ("b/x", "a", "b/y/z", "c"):
        root.write(key, b"1")
    assert root.names() == ["a", "b", "c"]


def test_files_lists_all_keys_with_size_and_time(root):
    assert root.files() == []
    began = time.time()
    for key, size in (("b/x y+ü%.png", 3), ("a", 0), ("b/y/z", 5)):
        root.write(key, bytes(size))
    files = sorted(root.files())
    assert [(file.key, file.size) for file in files] == [("a", 0), ("b/x y+ü%.png", 3), ("b/y/z", 5)]
    assert all(began - 5 < file.written / 1e9 < time.time() + 5 for file in files)
    assert [file.key for file in root.child("b").files()] in (["x y+ü%.png", "y/z"], ["y/z", "x y+ü%.png"])


def test_fetch_copies_a_file_in_pieces(root, tmp_path, monkeypatch):
    monkeypatch.setattr("trainables.storage.bucket.PIECE", 1000)
    data = bytes(range(256)) * 10
    root.write("a/b", data)
    assert root.fetch("a/b", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == data
    assert not root.fetch("a/c", tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_child_is_a_root_in_the_root(root):
    root.child("trials").child("00001").write("last.pt", b"1")
    assert root.read("trials/00001/last.pt") == b"1"
    assert root.child("trials").names() == ["00001"]


def test_size_of_and_discard_work_on_locations(root, location):
    place = join(location, "trials/00001/last.pt")
    root.write("trials/00001/last.pt", b"12345")
    assert size_of(place) == 5
    discard(place)
    assert size_of(place) is None
    discard(place)
    assert root.read("trials/00001/last.pt") is None


def test_a_failed_write_changes_nothing(root):
    root.write("a/b", b"old")

    def write_half(key):
        with root.writing(key) as file:
            file.write(b"half")
            raise KeyError(key)

    for key in ("a/b", "a/c"):
        with pytest.raises(KeyError):
            write_half(key)
    assert (root.read("a/b"), root.read("a/c")) == (b"old", None)
    assert root.child("a").names() == ["b"]


def test_a_reader_sees_whole_content_while_another_writes(root):
    size, seen = 300_000, set()
    root.write("x", b"0" * size)

    def write():
        for digit in (b"1", b"2", b"3", b"4"):
            root.write("x", digit * size)

    writer = threading.Thread(target=write)
    writer.start()
    while writer.is_alive():
        found = Root(root.location).read("x")
        assert len(found) == size
        assert len(set(found)) == 1
        seen.add(found[:1])
    writer.join()
    assert root.read("x") == b"4" * size
    assert seen


def test_two_writers_of_one_key_never_mix(root):
    turns, contents = threading.Barrier(2), {b"1" * 100_000, b"2" * 100_000}

    def write(content):
        with Root(root.location).writing("a/b") as file:
            turns.wait(30)
            file.write(content[:50_000])
            turns.wait(30)
            file.write(content[50_000:])

    writers = [threading.Thread(target=write, args=(content,)) for content in contents]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert root.read("a/b") in contents
    assert root.child("a").names() == ["b"]


@pytest.mark.parametrize("key", OUTWARD)
def test_keys_that_lead_out_are_rejected(root, key, tmp_path):
    for use in (root.read, root.open, root.size, root.exists, root.remove, root.child, lambda key: root.write(key, b"1")):
        with pytest.raises(StorageError, match="cannot be a key"):
            use(key)
    assert list(tmp_path.rglob("*")) == []


def test_probe_leaves_nothing_and_rejects_a_root_that_is_not_fresh(root, location):
    probe(location, fresh=True)
    probe(location, fresh=True)
    assert root.names() == []
    root.write("trials/00000/last.pt", b"1")
    probe(location)
    with pytest.raises(StorageError, match="is not empty; choose another --name or --root"):
        probe(location, fresh=True)


def test_checkpoints_and_weights_are_saved_and_loaded(location):
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.ones(3))], lr=0.1)
    place = join(location, "trials/00001/last.pt")
    assert load_state(place) is None
    save_state(place, {"epoch": 3, "network": {"a": torch.arange(9.0)}, "optimizer": optimizer.state_dict()})
    found = load_state(place)
    assert found["epoch"] == 3
    assert torch.equal(found["network"]["a"], torch.arange(9.0))
    with pytest.raises(AttributeError):  # a lambda is not a plain value
        save_state(place, {"epoch": 4, "network": lambda: None})
    assert load_state(place)["epoch"] == 3
    export_weights(join(location, "best.safetensors"), {"a": torch.ones(2)}, {"format": "pt"})
    assert b'"format":"pt"' in Root(location).read("best.safetensors")
    Root(location).write("trials/00001/last.pt", Root(location).read("trials/00001/last.pt")[:100])
    with pytest.raises(StorageError, match="not a readable checkpoint"):
        load_state(place)


# Errors


def test_a_missing_bucket_is_named(bucket):
    absent = bucket.replace("bucket-", "absent-", 1)
    with pytest.raises(StorageError, match=r"cannot write s3://absent-.*there is no such bucket; make it first, or name another"):
        probe(join(absent, "a"))
    with pytest.raises(StorageError, match="there is no such bucket"):
        save_state(join(absent, "last.pt"), {})


def test_refused_credentials_are_reported(bucket):
    from moto.core import set_initial_no_auth_action_count

    for use in (probe, load_state, discard):
        with pytest.raises(StorageError, match=r"the credentials are refused; set AWS_ACCESS_KEY_ID") as caught:
            set_initial_no_auth_action_count(0)(use)(join(bucket, "a"))
        assert "testing" not in str(caught.value)


def test_an_unknown_query_parameter_is_reported(bucket):
    with pytest.raises(StorageError, match=r"cannot be used: Unexpected query parameter.*'nonsense'"):
        probe(f"{bucket}&nonsense=1")


@pytest.fixture
def silent_port():
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


def test_a_server_that_does_not_answer_is_reported(bucket, silent_port):
    with pytest.raises(StorageError, match="does not answer as it should; check that it runs, and check endpoint_override and region"):
        probe(f"s3://bucket/a?endpoint_override=http://127.0.0.1:{silent_port}&region=us-east-1")


@pytest.mark.slow
def test_a_root_with_pauses_waits_for_its_server(bucket):
    from moto.server import ThreadedMotoServer

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    away = f"{bucket.partition('?')[0]}/a?endpoint_override=http://127.0.0.1:{port}&region=us-east-1"
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=port, verbose=False)
    timer = threading.Timer(8, server.start)
    timer.start()
    began = time.monotonic()
    Root(away, (1.0, 1.0, 1.0)).write("x", b"1")
    timer.join()
    assert Root(join(bucket, "a")).read("x") == b"1"
    assert time.monotonic() - began > 7
    server.stop()


def test_a_file_in_place_of_a_folder_is_named(tmp_path):
    (tmp_path / "runs").touch()
    with pytest.raises(StorageError, match=r"cannot write .*runs.*; check that it may be read and written"):
        probe(tmp_path / "runs" / "a")


def test_a_folder_that_cannot_be_written_is_named():
    with pytest.raises(StorageError, match="cannot write /proc/"):
        probe("/proc/none")


@pytest.fixture
def small_disk(tmp_path):
    """Mount a disk of 2 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "none", place], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.strip()}")
    yield place
    subprocess.run(["umount", place], check=True)


def test_a_full_disk_keeps_what_was_written_before(small_disk):
    place, big = small_disk / "trials" / "last.pt", {"a": torch.ones(1_000_000)}
    save_state(place, {"epoch": 1, "network": {"a": torch.ones(100_000)}})
    (small_disk / "kept").write_bytes(b"1")
    writers = {
        "last.pt": lambda: save_state(place, {"epoch": 2, **big}),
        "best.safetensors": lambda: export_weights(small_disk / "best.safetensors", big, {}),
        "artifact": lambda: Root(small_disk).write("artifact", bytes(3_000_000)),
    }
    for name, write in writers.items():
        with pytest.raises(ResourceError, match=f"cannot write .*{name}: No space left on device; is the disk full"):
            write()
    assert load_state(place)["epoch"] == 1
    assert sorted(path.name for path in small_disk.rglob("*")) == ["kept", "last.pt", "trials"]
    save_state(place, {"epoch": 2})
    assert load_state(place)["epoch"] == 2


def test_a_killed_writer_s_file_is_not_listed_and_is_removed_with_the_key(tmp_path):
    program = f"""
import os
from trainables.storage.root import Root
with Root({str(tmp_path)!r}).writing("last.pt") as file:
    file.write(b"half")
    file.flush()
    os._exit(1)
"""
    Root(tmp_path).write("last.pt", b"whole")
    subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, timeout=60)
    assert len(list(tmp_path.iterdir())) == 2
    assert Root(tmp_path).read("last.pt") == b"whole"
    assert Root(tmp_path).names() == [file.key for file in Root(tmp_path).files()] == ["last.pt"]
    Root(tmp_path).remove("last.pt")
    assert list(tmp_path.iterdir()) == []


def test_a_write_removes_temporary_files_that_are_an_hour_old(tmp_path):
    old, new, other = (temporary_path(tmp_path / name) for name in ("last.pt", "last.pt", "other"))
    for path in (old, new, other):
        path.write_bytes(b"half")
    for path in (old, other):
        os.utime(path, (time.time() - 3700,) * 2)
    Root(tmp_path).write("last.pt", b"whole")
    assert {path.name for path in tmp_path.iterdir()} == {"last.pt", new.name}


def test_remove_abandoned_leaves_whole_content(root, location, tmp_path):
    root.write("a", b"whole")
    if location.startswith(str(tmp_path)):
        temporary_path(Path(location) / "b").write_bytes(b"half")
    root.remove_abandoned()
    assert root.names() == ["a"]
    assert [path.name for path in Path(location).glob("*")] in (["a"], [])
    Root(join(location, "missing")).remove_abandoned()


def test_a_folder_imports_neither_torch_nor_pyarrow(tmp_path):
    program = f"""
import sys
from trainables.storage.root import Root, probe
probe({str(tmp_path / "root")!r})
Root("s3://bucket/a")
print(sorted({{"torch", "pyarrow", "ray"}} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]", done.stderr
