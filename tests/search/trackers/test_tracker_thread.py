import threading
from io import StringIO

from search.trackers.tracker_thread import TrackerThread
from tests.search.trackers.tracked_search import SEARCH, begin


class FailingTracker:
    """A tracker that lists its calls, and whose epochs raise."""

    def __init__(self):
        self.calls = []

    def __getattr__(self, name):
        def call(*arguments):
            self.calls.append(name)
            if name == "log_epoch":
                raise OSError("no space\x1b[2J\nleft")

        return call


def test_a_tracker_that_raises_is_reported_once_and_switched_off():
    lines, tracker = [], FailingTracker()
    thread = TrackerThread("mlflow", tracker, lines.append)
    with thread:
        begin(thread)
        for event in SEARCH:
            thread.event(event)
        thread.finishing()
    assert lines == ["--track mlflow failed and is switched off; the search goes on (OSError: no space [2J left)"]
    assert tracker.calls == ["start_study", "start_trial", "log_epoch"]


def test_a_tracker_that_hangs_does_not_delay_the_search(monkeypatch):
    monkeypatch.setattr("search.trackers.tracker_thread.CLOSING_SECONDS", 0.1)
    monkeypatch.setattr("search.trackers.tracker_thread.SILENT_SECONDS", 0.1)
    gate, lines, tracker = threading.Event(), [], FailingTracker()
    tracker.start_trial = lambda *arguments: gate.wait(60)
    thread = TrackerThread("mlflow", tracker, lines.append)
    with thread:
        begin(thread)
        for event in SEARCH * 100:
            thread.event(event)
    assert not gate.is_set()
    gate.set()
    assert lines == ["waiting for mlflow, 0 s at most"]


def test_a_tracker_is_not_called_for_a_search_that_never_began():
    tracker = FailingTracker()
    with TrackerThread("mlflow", tracker, StringIO().write):
        pass
    assert tracker.calls == []
