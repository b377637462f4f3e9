import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState, create_trial

from search.display.snapshot import snapshot_of, trials_since_best
from search.record.reader import read_study


def test_the_snapshot_of_a_record(halfway):
    snapshot = snapshot_of(read_study("calm-fig", halfway.url))
    assert {state: count for state, count in snapshot.counts.items() if count} == {
        "finished": 2,
        "stopped": 1,
        "failed": 1,
        "running": 1,
        "queued": 1,
    }
    assert (snapshot.best.number, snapshot.best.value, list(snapshot.best.curve)) == (2, 0.9, [0.3, 0.5, 0.8, 0.9])
    assert snapshot.best.gain == pytest.approx(0.3)
    assert 0 <= snapshot.best.after_seconds < 60
    assert {gauge.name: (round(gauge.used, 3), gauge.limit) for gauge in snapshot.gauges if gauge.name != "time"} == {
        "trials": (4, 6),
        "GPU-hours": (1.25, 2.0),
        "no improvement": (0, 4),
    }
    (row,) = snapshot.running
    assert (row.number, row.epoch, row.epochs, row.curve, row.speed) == (4, 2, 4, [0.25, 0.5], 500.0)
    assert snapshot.seconds_left is not None
    assert snapshot.problems == ["trial 3 failed: non-finite: loss is nan [x]"]


def test_trials_without_improvement_are_counted_since_the_best(running_study):
    for value in (0.5, 0.4, 0.6, 0.1):
        running_study.add_ended(TrialState.COMPLETE, value)
    running_study.add_ended(TrialState.FAIL)
    running_study.add_ended(TrialState.PRUNED, 0.9)
    trials = sorted(read_study("calm-fig", running_study.url).trials, key=lambda trial: trial.ended)
    assert [trials_since_best(trials[:count], "max") for count in range(7)] == [0, 0, 1, 0, 1, 1, 2]
    assert trials_since_best(trials[:4], "min") == 0


def test_waiting_trials_of_the_record_are_counted_once_as_queued(running_study):
    waiting = create_trial(state=TrialState.WAITING, distributions={"x": FloatDistribution(0, 1)}, params={"x": 0.5})
    running_study.study.add_trial(waiting)
    assert snapshot_of(read_study("calm-fig", running_study.url)).counts["queued"] == 6
