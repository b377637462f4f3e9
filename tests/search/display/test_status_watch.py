import json
import re
import signal
import sqlite3
import threading
import time
from io import StringIO
from types import SimpleNamespace

import pytest
from optuna.trial import TrialState
from rich.console import Console

from search.display.status_watch import poll_record, watch_status
from search.record.reader import read_study
from tests.search.conftest import start
from tests.waiting import wait_until
from trainables.errors import StorageError


def start_watch(study, console, **options):
    settings = {"console": console, "every": 0.05, **options}
    thread = threading.Thread(target=watch_status, args=("calm-fig", study.url), kwargs=settings)
    thread.start()
    return thread


def test_without_a_terminal_each_change_is_one_line_then_the_summary(running_study, capsys):
    out = StringIO()
    thread = start_watch(running_study, Console(file=out, force_terminal=False, width=200))
    wait_until(lambda: "6 queued" in out.getvalue(), 20, out.getvalue)
    running_study.add_ended(TrialState.COMPLETE, 0.4, 0.5)
    wait_until(lambda: "1 finished, 5 queued" in out.getvalue(), 20, out.getvalue)
    running_study.finish()
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
    assert re.search(r"4 +2/4 +0\.5 +▁█ .*efficientnet_lite0", shown)
    assert "calm-fig interrupted: interrupted by SIGINT" in capsys.readouterr().out


def test_as_json_each_change_is_the_object_of_status_json(running_study):
    out = StringIO()
    thread = start_watch(running_study, Console(file=out, force_terminal=False), as_json=True)
    wait_until(lambda: out.getvalue().count("\n") == 1, 20, out.getvalue)
    running_study.add_ended(TrialState.COMPLETE, 0.4, 0.5)
    wait_until(lambda: '"finished": 1' in out.getvalue(), 20, out.getvalue)
    running_study.finish()
    thread.join(20)
    found = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [found[0]["state"], found[-1]["state"]] == ["running", "finished"]
    assert found[-1] == read_study("calm-fig", running_study.url).status_json()


def test_an_ended_study_is_summarized_at_once(running_study, capsys, monkeypatch):
    monkeypatch.setattr("search.display.status_watch.time", SimpleNamespace(monotonic=time.monotonic, sleep=pytest.fail))
    running_study.finish()
    out = StringIO()
    watch_status("calm-fig", running_study.url, console=Console(file=out, force_terminal=True, width=80), every=60)
    assert "calm-fig finished" in capsys.readouterr().out
    assert "running for" not in out.getvalue()


def test_poll_record_reports_a_storage_error_and_continues(running_study):
    found = poll_record("calm-fig", running_study.url, 0.0)
    record, trouble = next(found)
    assert (record.state, trouble) == ("running", "")
    with sqlite3.connect(running_study.url.removeprefix("sqlite:///")) as other:
        other.execute("ALTER TABLE studies RENAME TO away")
        other.commit()
        again, trouble = next(found)
        assert (again, "no such table" in trouble) == (record, True)
        other.execute("ALTER TABLE away RENAME TO studies")
        other.commit()
    assert next(found)[1] == ""
    running_study.finish()
    assert [record.state for record, _ in found] == ["finished"]


def test_an_unknown_study_is_an_error_with_a_suggestion(running_study):
    with pytest.raises(StorageError, match="did you mean 'calm-fig'"):
        watch_status("calm-fog", running_study.url)


def test_ctrl_c_ends_the_watch_without_a_message(running_study):
    process = start("status", "calm-fig", "--watch", "--storage", running_study.url)
    assert "6 queued" in process.stdout.readline()
    process.send_signal(signal.SIGINT)
    out, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, "")
    assert "finished" not in out
