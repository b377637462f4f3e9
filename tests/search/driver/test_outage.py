"""PostgreSQL stops and starts again during a search: trials go on, their reports wait, and nothing is lost."""

import threading
import time

import pytest

from search.record.reader import read_study
from search.watcher import SilentWatcher
from tests.search.conftest import numbers
from trainables.worker.simulated_trial import SimulatedTrial, Simulation

TRIALS, EPOCHS = 2, 4


class Outage(SilentWatcher):
    """Stops a server at the search's first epoch, as a power failure does, and starts it again `seconds` later."""

    def __init__(self, server, seconds):
        self._server, self._seconds = server, seconds
        self.down = self.up = None
        self.events, self.said = [], []

    def event(self, event):
        self.events.append((time.monotonic(), event))
        if event.kind == "epoch" and self.down is None:
            self._server.stop("immediate")
            self.down = time.monotonic()
            self._timer = threading.Timer(self._seconds, self._start)
            self._timer.start()

    def say(self, text):
        self.said.append((time.monotonic(), text))

    def _start(self):
        self._server.start()
        self.up = time.monotonic()

    def events_during_outage(self, kind):
        return [event for at, event in self.events if event.kind == kind and self.down < at < self.up]


@pytest.fixture
def outage(postgres):
    """Make a watcher that stops the server for some seconds."""
    made = []

    def of(seconds):
        made.append(Outage(postgres, seconds))
        return made[-1]

    yield of
    for each in made:
        each._timer.join()
    if not postgres.answers():
        postgres.start()


@pytest.mark.timeout(300)
@pytest.mark.slow
@pytest.mark.parametrize("seconds", [3, 70])
def test_a_search_survives_an_outage_of_its_database(seconds, search, photos, postgres, outage):
    url, away = postgres.database(), outage(seconds)
    trainable = SimulatedTrial.of(Simulation(seconds=seconds))
    name = search(photos, storage=url, trials=TRIALS, epochs=EPOCHS, watcher=away, trainable=trainable).name

    assert away.up - away.down >= seconds
    assert len(away.events_during_outage("epoch")) >= 1
    waits, goes_on = (text for _, text in away.said)
    assert waits.startswith("the record cannot be written (")
    assert "trials continue, and their reports wait" in waits
    assert goes_on.startswith("the record is written again, after ")
    assert away.said[1][0] >= away.up - 1

    record = read_study(name, url)
    assert (record.state, record.counts["finished"]) == ("finished", TRIALS)
    assert [trial.number for trial in record.trials] == list(range(TRIALS))
    assert record.seconds >= seconds
    for trial in record.trials:
        assert (trial.state, trial.epochs_done) == ("finished", EPOCHS)
        assert sorted(trial.intermediate) == [250, 500, 750, 1000]
        assert list(trial.intermediate.values()) == trial.history["objective"]
        assert trial.value == trial.history["objective"][-1]


@pytest.mark.slow
def test_an_outage_changes_no_number(search, photos, postgres, outage, tmp_path):
    disturbed = search(photos, storage=postgres.database(), trials=TRIALS, epochs=EPOCHS, watcher=outage(10))
    calm = search(photos, trials=TRIALS, epochs=EPOCHS, output=str(tmp_path / "calm"))
    assert [trial.params for trial in disturbed.trials] == [trial.params for trial in calm.trials]
    assert [numbers(trial) for trial in disturbed.trials] == [numbers(trial) for trial in calm.trials]
