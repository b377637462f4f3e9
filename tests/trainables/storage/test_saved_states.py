"""The saved states of a trial, written by one worker or by several, in a folder and on a real S3 server."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainables.errors import DamagedError
from trainables.storage.atomic_write import temporary_path
from trainables.storage.locations import join, split_location
from trainables.storage.root import Root, root_and_key
from trainables.storage.saved_states import SavedStates, discard_states


@pytest.fixture(params=["folder", "bucket"])
def folder(request, tmp_path):
    root = str(tmp_path) if request.param == "folder" else request.getfixturevalue("bucket")
    return join(root, "trials/00003")


def read(location):
    """Return the epoch that `save` has written to a location."""
    root, key = root_and_key(location)
    content = root.read(key)
    if content is not None and not content.endswith(b"."):
        raise DamagedError(f"{key} is cut off")
    return None if content is None else int(content[:-1])


def save(states, epoch, meanwhile=lambda: None):
    """Save an epoch; `meanwhile` is called after the file is written and before older ones are removed."""

    def write(location):
        root, key = root_and_key(location)
        root.write(key, b"%d." % epoch)
        meanwhile()

    states.save(epoch, write)


def damage(folder, key):
    Root(folder).write(key, Root(folder).read(key)[:-1])


def epochs(folder):
    return [int(key.split("-")[1]) for key in SavedStates(folder).names()]


def test_a_trial_without_states_loads_none(folder):
    assert SavedStates(folder).load(read) is None
    Root(folder).write("account.json", b"{}")
    assert SavedStates(folder).load(read) is None


def test_each_save_replaces_the_states_before_it(folder):
    states = SavedStates(folder, "json")
    Root(folder).write("account.json", b"{}")
    for epoch in (8, 9, 10, 100):
        save(states, epoch)
        assert SavedStates(folder).load(read) == epoch
        name, key = Root(folder).names()
        assert (name, states.saved.location, states.saved.bytes) == ("account.json", join(folder, key), len(f"{epoch}."))
        assert key.startswith(f"state-{epoch:06d}-")
        assert key.endswith(".json")


def test_a_loaded_state_is_named_with_its_size(folder):
    save(SavedStates(folder), 12)
    states = SavedStates(folder)
    states.load(read)
    assert states.saved == (join(folder, states.names()[0]), 3)


def test_a_worker_taken_for_lost_does_not_hide_its_successors_state(folder):
    old = SavedStates(folder)
    save(old, 2)
    new = SavedStates(folder)
    assert new.load(read) == 2
    save(new, 3)
    save(new, 4)
    save(old, 3)
    assert SavedStates(folder).load(read) == 4
    save(new, 5)
    assert epochs(folder) == [5]


def test_two_workers_that_save_the_same_epoch_leave_at_least_one_state(folder):
    one, other = SavedStates(folder), SavedStates(folder)
    save(one, 3, meanwhile=lambda: save(other, 3))
    assert SavedStates(folder).load(read) == 3
    assert len(epochs(folder)) in (1, 2)
    save(other, 4)
    assert epochs(folder) == [4]


def test_a_worker_that_is_overtaken_while_it_saves_removes_nothing_newer(folder):
    slow, fast = SavedStates(folder), SavedStates(folder)
    save(slow, 3, meanwhile=lambda: [save(fast, epoch) for epoch in (3, 4, 5)])
    assert SavedStates(folder).load(read) == 5
    assert epochs(folder) == [5]
    assert slow.saved.bytes == 0, "its own state is gone"


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 4), st.lists(st.tuples(st.integers(0, 2), st.integers(1, 4)), max_size=2))))
def test_the_highest_epoch_is_loaded_whoever_saves_and_whenever(turns):
    with tempfile.TemporaryDirectory() as folder:
        workers, highest = [SavedStates(folder) for _ in range(3)], 0
        for worker, epoch, between in turns:
            save(workers[worker], epoch, lambda between=between: [save(workers[other], later) for other, later in between])
            highest = max(highest, epoch, *(later for _, later in between))
            assert SavedStates(folder).load(read) == highest


def test_a_state_that_is_replaced_while_it_is_read_is_looked_for_again(folder):
    writer, seen = SavedStates(folder), []
    save(writer, 3)

    def read_slowly(location):
        seen.append(location)
        if len(seen) == 1:
            save(writer, 4)
        return read(location)

    states = SavedStates(folder)
    assert states.load(read_slowly) == 4
    assert states.damaged == {}


def test_a_file_that_is_removed_in_the_middle_of_reading_is_not_damaged(folder):
    save(SavedStates(folder), 3)

    def removed_while_read(location):
        discard_states(location)
        raise DamagedError("half of it")

    states = SavedStates(folder)
    assert states.load(removed_while_read, newest_only=True) is None
    assert states.damaged == {}


def test_a_damaged_state_falls_back_to_an_older_one_and_is_removed_after_the_next_save(folder):
    workers = [SavedStates(folder) for _ in range(3)]
    save(workers[0], 6)
    save(workers[1], 4)  # an old worker
    damage(folder, SavedStates(folder).names()[0])
    with pytest.raises(DamagedError, match=r"state-000006-.* is cut off"):
        SavedStates(folder).load(read, newest_only=True)
    assert workers[2].load(read) == 4
    assert [(key[:12], text[-10:]) for key, text in workers[2].damaged.items()] == [("state-000006", "is cut off")]
    assert epochs(folder) == [6, 4], "loading removes nothing"
    save(workers[2], 5)
    assert epochs(folder) == [5]
    assert workers[2].damaged == {}


def test_damaged_states_only_are_all_reported(folder):
    save(SavedStates(folder), 6)
    save(SavedStates(folder), 5)
    for key in SavedStates(folder).names():
        damage(folder, key)
    states = SavedStates(folder)
    assert states.load(read) is None
    assert len(states.damaged) == 2
    save(states, 1)
    assert epochs(folder) == [1]


def test_the_single_state_of_an_earlier_version_is_the_oldest(folder):
    Root(folder).write("last.pt", b"7.")
    states = SavedStates(folder)
    assert states.load(read) == 7
    assert states.saved.location == join(folder, "last.pt")
    save(states, 8)
    assert states.names() == [split_location(states.saved.location)[1]]


def test_discard_states_removes_every_state_and_leaves_other_files(folder, tmp_path):
    states = SavedStates(folder)
    Root(folder).write("last.pt", b"2.")
    save(states, 4)
    save(SavedStates(folder), 3)
    Root(folder).write("account.json", b"{}")
    if folder.startswith(str(tmp_path)):
        temporary_path(Path(folder) / "state-000005-00000000.pt").write_bytes(b"half")
    discard_states(states.saved.location)
    assert Root(folder).names() == ["account.json"]
    assert [path.name for path in Path(folder).glob("*")] in ([], ["account.json"])
    discard_states(join(folder, "last.pt"))
    discard_states(join(folder, "missing/last.pt"))
