import threading
import time

import pytest
from optuna.exceptions import StorageInternalError
from sqlalchemy.exc import OperationalError

import search.record.record_writer
from search.record.record_writer import RecordWriter
from trainables.errors import InjertoError, ResourceError, StorageError


def away(text="connection refused"):
    return OperationalError("insert", {}, Exception(text))


class Listening:
    """A ledger whose sayings and last word are kept."""

    def __init__(self, patience=60.0):
        self.said, self.broken = [], []
        self.record_writer = RecordWriter(self.said.append, self.broken.append, patience)


@pytest.fixture
def quick(monkeypatch):
    """Pauses that a test can wait for."""
    monkeypatch.setattr(search.record.record_writer, "LONGEST_PAUSE", 0.02)


def test_jobs_are_done_in_order_on_one_thread():
    listening, done, threads = Listening(), [], set()

    def job(number):
        threads.add(threading.get_ident())
        done.append(number)
        return number * 2

    with listening.record_writer as record_writer:
        futures = [record_writer.put(lambda number=number: job(number)) for number in range(50)]
    assert done == list(range(50))
    assert [future.result() for future in futures] == [2 * number for number in range(50)]
    assert len(threads) == 1
    assert threading.get_ident() not in threads


def test_a_write_is_repeated_while_the_database_is_away(quick):
    listening, calls = Listening(), []

    def write(value):
        calls.append(value)
        if len(calls) < 9:
            raise away()
        return value

    with listening.record_writer as record_writer:
        first, second = record_writer.put(lambda: record_writer.patiently(write, 7)), record_writer.put(lambda: list(calls))
    assert first.result() == 7
    assert second.result() == [7] * 9
    assert listening.broken == []


def test_it_says_once_that_it_waits_and_that_it_goes_on(monkeypatch):
    monkeypatch.setattr(search.record.record_writer.time, "sleep", lambda seconds: None)
    listening, left = Listening(), iter(range(30))

    def write():
        if next(left) < 20:
            raise away()

    with listening.record_writer as record_writer:
        record_writer.put(lambda: record_writer.patiently(write))
    assert len(listening.said) == 2
    assert "the record cannot be written (connection refused" in listening.said[0]
    assert listening.said[1].startswith("the record is written again, after ")


def test_patience_ends(quick):
    listening = Listening(patience=0.2)

    def write():
        raise away("gone for good")

    with listening.record_writer as record_writer:
        lost, dropped = record_writer.put(lambda: record_writer.patiently(write)), record_writer.put(lambda: "never done")
    assert isinstance(lost.exception(), OperationalError)
    assert isinstance(dropped.exception(), OperationalError)
    (error,) = listening.broken
    assert isinstance(error, StorageError)
    assert "gone for good" in str(error)


def wrapped(error):
    """As Optuna hands it on."""
    outer = StorageInternalError("An exception is raised during the commit.")
    outer.__cause__ = error
    return outer


FULL = (
    away("database or disk is full"),
    wrapped(away("database or disk is full")),
    wrapped(away("disk I/O error")),
    ResourceError("no room"),
    OSError(28, "No space left on device"),
)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("error", FULL)
def test_a_full_disk_is_waited_for_less(error, quick, monkeypatch):
    monkeypatch.setattr(search.record.record_writer, "PATIENCE_WITH_A_FULL_DISK", 0.1)
    listening = Listening(patience=600)

    def write():
        raise error

    started = time.monotonic()
    with listening.record_writer as record_writer:
        record_writer.put(lambda: record_writer.patiently(write))
    assert time.monotonic() - started < 60
    assert isinstance(listening.broken[0], InjertoError)


def test_a_mistake_is_not_repeated():
    listening, calls = Listening(), []

    def write():
        calls.append(1)
        raise ValueError("not a text")

    with listening.record_writer as record_writer:
        record_writer.put(lambda: record_writer.patiently(write))
    assert calls == [1]
    assert "not a text" in str(listening.broken[0])


def test_chores_are_done_between_jobs_and_without_any():
    listening, beats = Listening(), []
    with listening.record_writer as record_writer:
        record_writer.every(0.01, lambda: beats.append(len(beats)))
        deadline = time.monotonic() + 20
        while len(beats) < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
        for _ in range(5):
            record_writer.put(lambda: time.sleep(0.02))
        before = len(beats)
        record_writer.put(lambda: None).result()
        assert len(beats) >= before + 3


def test_a_second_interrupt_does_not_wait():
    listening, go = Listening(), threading.Event()
    listening.record_writer.__enter__().put(go.wait)
    listening.record_writer.__exit__(KeyboardInterrupt)
    assert not go.is_set()
    go.set()
