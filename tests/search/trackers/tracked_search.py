"""A search of two trials as a tracker sees it."""

import math

from search.events import Event
from search.policy.stop_condition import StopCondition
from search.trackers.registry import tracker_threads
from tests.search.conftest import watched_plan
from trainables.config import TrialConfig

CONFIG = TrialConfig(epochs=3, learning_rate=0.0125)


def track(name, output, events, *, interrupted=False):
    """Pass the events of a search to a tracker; return the lines that it writes."""
    lines = []
    (thread,) = tracker_threads([name], lines.append)
    with thread:
        begin(thread, output)
        for event in events:
            thread.event(event)
        thread.pausing("interrupted") if interrupted else thread.finishing()
    return lines


def begin(thread, *output):
    thread.begin("calm-fig", watched_plan(*output), 2, StopCondition("max", trials=2), 0)


def epochs(number, last, first=1):
    return [Event("began", number, CONFIG, epoch=first - 1)] + [
        Event(
            "epoch",
            number,
            CONFIG,
            epoch=epoch,
            value=epoch / 10,
            metrics={"objective": epoch / 10, "accuracy": epoch / 10, "loss": math.nan},
        )
        for epoch in range(first, last + 1)
    ]


def end(kind, number, reason=""):
    return Event(kind, number, CONFIG, epoch=3, value=0.3, reason=reason, seconds=1.0)


SEARCH = [*epochs(0, 3), *epochs(1, 2), end("finished", 0), end("stopped", 1, "rung 33%")]
BEFORE_PAUSE = [*epochs(0, 2), end("paused", 0, "interrupted")]
AFTER_PAUSE = [*epochs(0, 3, first=3), end("finished", 0)]
