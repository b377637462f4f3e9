import os
import resource
import subprocess
import sys

import numpy as np
import pytest

from trainables.storage import array_cache
from trainables.storage.array_cache import ArrayCache

ARRAY = np.arange(1000, dtype=np.float16).reshape(10, 100)
SIZE = ARRAY.nbytes + 128 + 4  # of the file, with its header and checksum


def read(cache, key):
    return cache.read(key, ARRAY.shape, np.float16)


def use_at(folder, key, second):
    os.utime(folder / f"{key}.npy", (second, second))


def test_an_array_is_read_as_it_was_written(tmp_path):
    cache = ArrayCache(tmp_path / "arrays", 1e6)
    assert read(cache, "one") is None
    assert cache.write("one", ARRAY)
    assert np.array_equal(read(cache, "one"), ARRAY)


@pytest.mark.parametrize("damage", [b"", b"\x93NUMPY", "cut", "zeros"])
def test_a_damaged_file_counts_as_missing(tmp_path, damage):
    cache = ArrayCache(tmp_path, 1e6)
    cache.write("one", ARRAY)
    file = tmp_path / "one.npy"
    content = file.read_bytes()
    file.write_bytes({"cut": content[:-1], "zeros": content[:128] + bytes(len(content) - 128)}.get(damage, damage))
    assert read(cache, "one") is None
    assert cache.write("one", ARRAY)
    assert np.array_equal(read(cache, "one"), ARRAY)


def test_an_array_of_another_shape_or_dtype_counts_as_missing(tmp_path):
    cache = ArrayCache(tmp_path, 1e6)
    cache.write("one", ARRAY)
    assert cache.read("one", (10, 99), np.float16) is None
    assert cache.read("one", ARRAY.shape, np.float32) is None


def test_the_least_recently_used_arrays_are_removed_first(tmp_path):
    cache = ArrayCache(tmp_path, 3 * SIZE)
    for second, key in enumerate(("one", "two", "three")):
        cache.write(key, ARRAY)
        use_at(tmp_path, key, 1000 + second)
    assert read(cache, "one") is not None
    assert cache.write("four", ARRAY)
    assert [read(cache, key) is not None for key in ("one", "two", "three", "four")] == [True, False, True, True]


def test_an_open_array_stays_readable_after_its_removal(tmp_path):
    cache = ArrayCache(tmp_path, SIZE)
    cache.write("one", ARRAY)
    opened = read(cache, "one")
    cache.write("two", ARRAY)
    assert read(cache, "one") is None
    assert np.array_equal(opened, ARRAY)


def test_an_array_over_the_limit_is_not_stored_and_a_warning_says_so_once(tmp_path):
    cache = ArrayCache(tmp_path, SIZE / 2)
    with pytest.warns(UserWarning, match="computed again in each trial, because 2 kB do not fit into the room of") as warned:
        assert not any([cache.write("one", ARRAY), cache.write("two", ARRAY)])
    assert len(warned) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_removes_what_is_stored_and_is_no_error(tmp_path):
    """The limit of file sizes makes a real write fail, as a full disk does."""
    program = (
        "import resource, signal, sys; from pathlib import Path; import numpy as np\n"
        "from trainables.storage.array_cache import ArrayCache\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "cache = ArrayCache(Path(sys.argv[1]), 1e9)\n"
        "assert cache.write('small', np.zeros(10, np.float16))\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))\n"
        "assert not cache.write('large', np.zeros(100_000, np.float16))\n"
        "assert not cache.write('small', np.zeros(10, np.float16)), 'it stores nothing after the failure'\n"
    )
    result = subprocess.run([sys.executable, "-c", program, tmp_path], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stderr.count("UserWarning: activations are computed again in each trial") == 1
    assert "File too large" in result.stderr
    assert list(tmp_path.iterdir()) == []
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 4096


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    cache = ArrayCache(tmp_path / "file" / "arrays", 1e6)
    with pytest.warns(UserWarning, match="cannot be written"):
        assert not cache.write("one", ARRAY)
    with cache.claim("one", wait=True) as claimed:
        assert claimed


def test_a_network_disk_is_refused_with_the_remedy_unless_a_limit_is_given(tmp_path, monkeypatch):
    monkeypatch.setattr(array_cache, "disk_kind", lambda folder: "nfs4")
    with pytest.warns(UserWarning, match=r"is on a network disk \(nfs4\); set INJERTO_CACHE to a folder on a local disk"):
        assert not ArrayCache(tmp_path).write("one", ARRAY)
    assert ArrayCache(tmp_path, 1e6).write("one", ARRAY)


def test_one_process_at_a_time_makes_an_array(tmp_path):
    program = (
        "import sys; from pathlib import Path; from trainables.storage.array_cache import ArrayCache\n"
        "with ArrayCache(Path(sys.argv[1])).claim('one', wait=False) as claimed:\n"
        "    print(claimed, flush=True); sys.stdin.readline()\n"
    )
    cache = ArrayCache(tmp_path)
    command = [sys.executable, "-c", program, tmp_path]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "True\n"
        with cache.claim("one", wait=False) as claimed:
            assert not claimed
        with cache.claim("two", wait=False) as claimed:
            assert claimed
        other.stdin.write("\n")
        other.stdin.flush()
        with cache.claim("one", wait=True) as claimed:
            assert claimed
    assert list(tmp_path.iterdir()) == []
