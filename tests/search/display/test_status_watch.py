import json
import re
import signal
import sqlite3
import threading
import time
from io import StringIO
from types import SimpleNamespace

import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState, create_trial
from rich.console import Console

from search.display.snapshot import snapshot_of, trials_since_best
from search.display.status_watch import poll_record, watch_status
from search.record.reader import read_study
from tests.search.conftest import start
from tests.search.living import Living
from tests.waiting import wait_until
from trainables.errors import StorageError


@pytest.fixture
def living(tmp_path):
    with Living(tmp_path) as study:
        yield study


@pytest.fixture
def halfway(living):
    living.ended(TrialState.COMPLETE, 0.2, 0.4, 0.5, 0.6)
    living.ended(TrialState.PRUNED, 0.1, reason="rung 11%")
    living.ended(TrialState.COMPLETE, 0.3, 0.5, 0.8, 0.9)
    living.ended(TrialState.FAIL, reason="non-finite: loss is nan [x]")
    living.running(0.25, 0.5)
    return living


def start_watch(living, console, **options):
    thread = threading.Thread(target=watch_status, args=("calm-fig", living.url), kwargs={"console": console, "every": 0.05, **options})
    thread.start()
    return thread


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
    assert 0 <= snapshot.best.after < 60
    assert {gauge.name: (round(gauge.used, 3), gauge.limit) for gauge in snapshot.gauges if gauge.name != "time"} == {
        "trials": (4, 6),
        "GPU-hours": (1.25, 2.0),
        "no improvement": (0, 4),
    }
    (row,) = snapshot.running
    assert (row.number, row.epoch, row.epochs, row.curve, row.speed) == (4, 2, 4, [0.25, 0.5], 500.0)
    assert snapshot.seconds_left is not None
    assert snapshot.problems == ["trial 3 failed: non-finite: loss is nan [x]"]


def test_trials_without_improvement_are_counted_since_the_best(living):
    for value in (0.5, 0.4, 0.6, 0.1):
        living.ended(TrialState.COMPLETE, value)
    living.ended(TrialState.FAIL)
    living.ended(TrialState.PRUNED, 0.9)
    trials = sorted(read_study("calm-fig", living.url).trials, key=lambda trial: trial.ended)
    assert [trials_since_best(trials[:count], "max") for count in range(7)] == [0, 0, 1, 0, 1, 1, 2]
    assert trials_since_best(trials[:4], "min") == 0


def test_without_a_terminal_each_change_is_one_line_then_the_summary(living, capsys):
    out = StringIO()
    thread = start_watch(living, Console(file=out, force_terminal=False, width=200))
    wait_until(lambda: "6 queued" in out.getvalue(), 20, out.getvalue)
    living.ended(TrialState.COMPLETE, 0.4, 0.5)
    wait_until(lambda: "1 finished, 5 queued" in out.getvalue(), 20, out.getvalue)
    living.finish()
    thread.join(20)
    lines = out.getvalue().splitlines()
    assert len(lines) == len({re.sub(r"^\S+ s: ", "", line) for line in lines})
    assert re.match(r"\d+ s: 1 finished, 5 queued; best accuracy 0\.5 \(trial 0, after \d+ s\)", lines[-1])
    assert "calm-fig finished: all 6 trials have ended" in capsys.readouterr().out


@pytest.mark.parametrize("width", [80, 120])
def test_a_terminal_shows_a_live_view_until_the_search_ends(halfway, width, capsys):
    out = StringIO()
    thread = start_watch(halfway, Console(file=out, force_terminal=True, width=width, height=30, color_system=None))
    wait_until(lambda: "2/4" in out.getvalue(), 20, out.getvalue)
    halfway.finish("interrupted", "interrupted by SIGINT")
    thread.join(20)
    shown = out.getvalue()
    assert "calm-fig running for" in shown
    assert "4 of 6 trials" in shown
    assert "1.25 of 2 GPU-h" in shown
    assert "trial 3 failed: non-finite: loss is nan [x]" in shown
    assert re.search(r"4 +2/4 +0\.5 +▁█ .*mobilenet_v3_small", shown)
    assert "calm-fig interrupted: interrupted by SIGINT" in capsys.readouterr().out


def test_as_json_each_change_is_the_object_of_status_json(living):
    out = StringIO()
    thread = start_watch(living, Console(file=out, force_terminal=False), as_json=True)
    wait_until(lambda: out.getvalue().count("\n") == 1, 20, out.getvalue)
    living.ended(TrialState.COMPLETE, 0.4, 0.5)
    wait_until(lambda: '"finished": 1' in out.getvalue(), 20, out.getvalue)
    living.finish()
    thread.join(20)
    found = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [found[0]["state"], found[-1]["state"]] == ["running", "finished"]
    assert found[-1] == read_study("calm-fig", living.url).status_json()


def test_an_ended_study_is_summarized_at_once(living, capsys, monkeypatch):
    monkeypatch.setattr("search.display.status_watch.time", SimpleNamespace(monotonic=time.monotonic, sleep=pytest.fail))
    living.finish()
    out = StringIO()
    watch_status("calm-fig", living.url, console=Console(file=out, force_terminal=True, width=80), every=60)
    assert "calm-fig finished" in capsys.readouterr().out
    assert "running for" not in out.getvalue()


def test_poll_record_reports_a_storage_error_and_continues(living):
    found = poll_record("calm-fig", living.url, 0.0)
    record, trouble = next(found)
    assert (record.state, trouble) == ("running", "")
    with sqlite3.connect(living.url.removeprefix("sqlite:///")) as other:
        other.execute("ALTER TABLE studies RENAME TO away")
        other.commit()
        again, trouble = next(found)
        assert (again, "no such table" in trouble) == (record, True)
        other.execute("ALTER TABLE away RENAME TO studies")
        other.commit()
    assert next(found)[1] == ""
    living.finish()
    assert [record.state for record, _ in found] == ["finished"]


def test_an_unknown_study_is_an_error_with_a_suggestion(living):
    with pytest.raises(StorageError, match="did you mean 'calm-fig'"):
        watch_status("calm-fog", living.url)


def test_ctrl_c_ends_the_watch_without_a_message(living):
    process = start("status", "calm-fig", "--watch", "--storage", living.url)
    assert "6 queued" in process.stdout.readline()
    process.send_signal(signal.SIGINT)
    out, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, "")
    assert "finished" not in out


def test_waiting_trials_of_the_record_are_counted_once_as_queued(living):
    waiting = create_trial(state=TrialState.WAITING, distributions={"x": FloatDistribution(0, 1)}, params={"x": 0.5})
    living.study.add_trial(waiting)
    assert snapshot_of(read_study("calm-fig", living.url)).counts["queued"] == 6
