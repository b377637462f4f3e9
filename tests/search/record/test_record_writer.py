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


class Observed:
    """A record writer whose messages and failures are kept."""

    def __init__(self, patience=60.0):
        self.messages, self.failures = [], []
        self.record_writer = RecordWriter(self.messages.append, self.failures.append, patience)


@pytest.fixture
def quick(monkeypatch):
    """Short pauses between retries."""
    monkeypatch.setattr(search.record.record_writer, "MAX_PAUSE_SECONDS", 0.02)


def test_jobs_run_in_order_on_one_thread():
    observed, done, threads = Observed(), [], set()

    def job(number):
        threads.add(threading.get_ident())
        done.append(number)
        return number * 2

    with observed.record_writer as record_writer:
        futures = [record_writer.submit(lambda number=number: job(number)) for number in range(50)]
    assert done == list(range(50))
    assert [future.result() for future in futures] == [2 * number for number in range(50)]
    assert len(threads) == 1
    assert threading.get_ident() not in threads


def test_with_retries_repeats_a_write_while_the_database_is_away(quick):
    observed, calls = Observed(), []

    def write(value):
        calls.append(value)
        if len(calls) < 9:
            raise away()
        return value

    with observed.record_writer as record_writer:
        first, second = record_writer.submit(lambda: record_writer.with_retries(write, 7)), record_writer.submit(lambda: list(calls))
    assert first.result() == 7
    assert second.result() == [7] * 9
    assert observed.failures == []


def test_on_message_is_called_once_when_it_waits_and_once_when_it_continues(monkeypatch):
    monkeypatch.setattr(search.record.record_writer.time, "sleep", lambda seconds: None)
    observed, calls = Observed(), iter(range(30))

    def write():
        if next(calls) < 20:
            raise away()

    with observed.record_writer as record_writer:
        record_writer.submit(lambda: record_writer.with_retries(write))
    assert len(observed.messages) == 2
    assert "the record cannot be written (connection refused" in observed.messages[0]
    assert observed.messages[1].startswith("the record is written again, after ")


def test_after_its_patience_it_fails_and_drops_later_jobs(quick):
    observed = Observed(patience=0.2)

    def write():
        raise away("gone for good")

    with observed.record_writer as record_writer:
        failed, dropped = record_writer.submit(lambda: record_writer.with_retries(write)), record_writer.submit(lambda: "never done")
    assert isinstance(failed.exception(), OperationalError)
    assert isinstance(dropped.exception(), OperationalError)
    (error,) = observed.failures
    assert isinstance(error, StorageError)
    assert "gone for good" in str(error)


def wrapped(error):
    """Return the error that Optuna raises for another error."""
    outer = StorageInternalError("An exception is raised during the commit.")
    outer.__cause__ = error
    return outer


FULL_DISK_ERRORS = (
    away("database or disk is full"),
    wrapped(away("database or disk is full")),
    wrapped(away("disk I/O error")),
    ResourceError("no room"),
    OSError(28, "No space left on device"),
)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("error", FULL_DISK_ERRORS)
def test_a_full_disk_has_a_shorter_patience(error, quick, monkeypatch):
    monkeypatch.setattr(search.record.record_writer, "FULL_DISK_PATIENCE_SECONDS", 0.1)
    observed = Observed(patience=600)

    def write():
        raise error

    started = time.monotonic()
    with observed.record_writer as record_writer:
        record_writer.submit(lambda: record_writer.with_retries(write))
    assert time.monotonic() - started < 60
    assert isinstance(observed.failures[0], InjertoError)


def test_an_error_that_is_not_transient_is_not_retried():
    observed, calls = Observed(), []

    def write():
        calls.append(1)
        raise ValueError("not a text")

    with observed.record_writer as record_writer:
        record_writer.submit(lambda: record_writer.with_retries(write))
    assert calls == [1]
    assert "not a text" in str(observed.failures[0])


def test_periodic_tasks_run_between_jobs_and_without_jobs():
    observed, beats = Observed(), []
    with observed.record_writer as record_writer:
        record_writer.run_every(0.01, lambda: beats.append(len(beats)))
        deadline = time.monotonic() + 20
        while len(beats) < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
        for _ in range(5):
            record_writer.submit(lambda: time.sleep(0.02))
        before = len(beats)
        record_writer.submit(lambda: None).result()
        assert len(beats) >= before + 3


def test_leaving_after_a_second_ctrl_c_does_not_wait_for_jobs():
    observed, go = Observed(), threading.Event()
    observed.record_writer.__enter__().submit(go.wait)
    observed.record_writer.__exit__(KeyboardInterrupt)
    assert not go.is_set()
    go.set()
