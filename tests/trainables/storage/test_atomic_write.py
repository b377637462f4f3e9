"""Files are whole or absent, whoever else writes them."""

import threading

import pytest

from trainables.storage.atomic_write import atomic_write, is_temporary, remove_temporaries, temporary_path


@pytest.mark.parametrize("durable", [True, False])
def test_atomic_write_replaces_the_file_only_if_the_block_succeeds(tmp_path, durable):
    path = tmp_path / "folder" / "file"
    with atomic_write(path, durable=durable) as file:
        file.write(b"old")

    def write_half():
        with atomic_write(path, durable=durable) as file:
            file.write(b"half")
            raise KeyError

    with pytest.raises(KeyError):
        write_half()
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in path.parent.iterdir()] == ["file"]


def test_two_writers_of_one_file_never_mix(tmp_path):
    """Both have the file open at the same time, and each writes half of its content before the other goes on."""
    path, turns = tmp_path / "file", threading.Barrier(2)
    contents = {b"1" * 100_000, b"2" * 100_000}

    def write(content):
        with atomic_write(path) as file:
            turns.wait(10)
            file.write(content[:50_000])
            file.flush()
            turns.wait(10)
            file.write(content[50_000:])

    writers = [threading.Thread(target=write, args=(content,)) for content in contents]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert path.read_bytes() in contents
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_temporary_names_differ_and_are_recognised(tmp_path):
    names = {temporary_path(tmp_path / "last.pt").name for _ in range(100)}
    assert len(names) == 100
    assert all(map(is_temporary, names))
    assert not any(map(is_temporary, ["last.pt", ".last.pt", "last.pt.partial", ".last.pt.partial", ".last.pt.12.partial"]))


def test_remove_temporaries_leaves_those_of_other_files(tmp_path):
    for name in ("a", "a", "b", "a.b"):
        temporary_path(tmp_path / name).touch()
    (tmp_path / "a").touch()
    remove_temporaries(tmp_path / "a")
    assert sorted(path.name.rsplit(".", 2)[0] for path in tmp_path.iterdir()) == [".a.b", ".b", "a"]
    remove_temporaries(tmp_path / "missing" / "a")
