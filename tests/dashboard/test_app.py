import json
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import optuna
import psutil
import pytest
from streamlit.testing.v1 import AppTest

import dashboard
from dashboard import reading, serve
from dashboard.reading import plain
from trainables.errors import ConfigError

APP = Path(dashboard.__file__).with_name("app.py")


@pytest.fixture(autouse=True)
def fresh_reads():
    reading._study.clear()
    reading._open.clear()


def studies():
    return checked(AppTest.from_file(str(APP), default_timeout=20).run())


def study(name=None):
    app = AppTest.from_file(str(APP), default_timeout=20)
    if name is not None:
        app.query_params["study"] = name
    return checked(app.run().switch_page("views/study.py").run())


def checked(app):
    assert not app.exception
    return app


def words(app):
    return "\n".join(element.value for kind in (app.title, app.markdown, app.caption, app.warning, app.info, app.code) for element in kind)


def test_an_empty_storage_says_how_to_start(empty_storage):
    app = studies()
    assert "Start one in a terminal" in app.info[0].value
    assert app.code[0].value == "injerto search builtin:digits"


def test_a_study_has_a_card_with_a_link(played):
    app = studies()
    assert app.metric[0].value == "0.8"
    assert app.metric[0].delta == "+0.1"
    assert "2 finished" in words(app)
    assert "1 stopped" in words(app)
    link = app.get("page_link")[0].proto
    assert link.query_string == "study=calm-fig"


def test_a_study_of_another_program_is_said_and_the_others_are_shown(played):
    optuna.create_study(study_name="foreign", storage=played.url)
    app = studies()
    assert "was not made by injerto" in words(app)
    assert len(app.metric) == 1


def test_the_study_screen_shows_headline_charts_words_and_trials(played):
    app = study("calm-fig")
    assert {metric.label: metric.value for metric in app.metric} == {
        "best validation accuracy": "0.8",
        "gain over the default recipe": "+0.1",
        "trials": "4 of 8",
        "time": app.metric[3].value,
    }
    assert len(app.get("plotly_chart")) == 3
    assert list(app.dataframe[-1].value["state"]) == ["finished", "finished", "stopped", "failed", "running"]
    assert "The best configuration: trial 1" in [element.value for element in app.subheader]
    assert "Take mobilenet\\_v3\\_small" in words(app)
    assert "Test scores come when the search has finished" in words(app)


def test_test_scores_appear_once_they_exist(played):
    played.test_scores()
    played.state("finished", "all 8 trials have ended")
    app = study("calm-fig")
    assert list(app.dataframe[0].value["accuracy"]) == [0.8125, 0.75]
    assert "all 8 trials have ended" in words(app)


def test_without_a_name_the_latest_study_is_shown_and_named_in_the_address(played):
    app = study()
    assert app.title[0].value == plain("calm-fig")
    assert app.query_params["study"] == "calm-fig"


def test_an_unknown_study_is_said_kindly(played):
    app = study("calm-figs")
    assert "did you mean" in app.warning[0].value
    assert not app.title


def test_an_interrupted_study_says_how_to_go_on(played):
    played.state("interrupted", "interrupted by SIGINT")
    assert study("calm-fig").code[0].value == "injerto resume calm-fig"


def test_lost_artifacts_leave_the_rest_of_the_screen(played):
    shutil.rmtree(played.folder)
    app = study("calm-fig")
    assert "history of trial 1" in app.warning[0].value
    assert len(app.get("plotly_chart")) == 2
    assert len(app.dataframe) == 1


def test_a_new_trial_is_seen_at_the_next_refresh(played):
    app = study("calm-fig")
    played.run(0.6, 0.7, 0.8, 0.95)
    time.sleep(reading.SHARED_SECONDS + 0.1)
    assert checked(app.run()).metric[0].value == "0.95"


def test_a_zoom_outlives_new_trials_until_it_is_let_go(played):
    app = study("calm-fig")
    app.session_state["zoom-curves-calm-fig"] = {"x": [20, 60], "y": [0.2, 0.5]}
    played.run(0.6, 0.7, 0.8, 0.95)
    time.sleep(reading.SHARED_SECONDS + 0.1)
    assert axes(checked(app.run())) == ([20, 60], [0.2, 0.5])
    assert axes(checked(app.button(key="whole-curves-calm-fig").click().run())) == ([0, 102], None)


def axes(app):
    layout = json.loads(app.get("plotly_chart")[1].proto.spec)["layout"]
    return layout["xaxis"]["range"], layout["yaxis"].get("range")


def test_a_storage_that_goes_away_is_said_kindly(played, tmp_path):
    app = study("calm-fig")
    for file in tmp_path.glob("studies.db*"):
        file.unlink()
    time.sleep(reading.SHARED_SECONDS + 0.1)
    assert "no studies at" in checked(app.run()).warning[0].value


def test_a_broken_storage_is_said_kindly(tmp_path, monkeypatch):
    (tmp_path / "broken.db").write_bytes(b"this is no database" * 100)
    monkeypatch.setenv("INJERTO_STORAGE", f"sqlite:///{tmp_path}/broken.db")
    assert "cannot open the storage" in studies().warning[0].value


def test_names_are_shown_as_they_are(play):
    name = "<script>alert(1)</script> **x** ![y](http://z) 🌱"
    play(name).run(0.1, 0.2, 0.3, 0.4)
    assert study(name).title[0].value == plain(name)
    assert f"**{plain(name)}** →" == studies().get("page_link")[0].proto.label


def test_plain_escapes_every_mark_and_keeps_words():
    assert plain("a *b*\n:red[c] $x$ <i>") == r"a \*b\* \:red\[c\] \$x\$ \<i\>"


def test_nothing_here_imports_torch_or_ray():
    modules = [path.relative_to(APP.parents[1]).with_suffix("") for path in APP.parent.rglob("*.py")]
    names = [".".join(module.parts).removesuffix(".__init__") for module in modules]
    assert len(names) >= 10
    code = f"import sys, {', '.join(names)}; print([m for m in ('torch', 'ray') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=APP.parents[1], check=True)
    assert done.stdout.strip() == "[]"


def test_a_taken_or_impossible_port_is_refused():
    with socket.socket() as other:
        other.bind((serve.ADDRESS, 0))
        other.listen()
        with pytest.raises(ConfigError, match=r"is taken.*--port"):
            serve.require_free(other.getsockname()[1])
    with pytest.raises(ConfigError, match="from 1 to 65535"):
        serve.require_free(70000)


def test_the_command_serves_on_this_machine_only(played):
    with socket.socket() as probe:
        probe.bind((serve.ADDRESS, 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "search.cli", "dashboard", "--storage", played.url, "--port", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=APP.parents[1])
    try:
        assert server.stdout is not None
        assert server.stdout.readline() == f"dashboard: http://127.0.0.1:{port} (Ctrl-C ends it)\n"
        assert answer(f"http://127.0.0.1:{port}/_stcore/health") == "ok"
        assert {c.laddr.ip for c in psutil.Process(server.pid).net_connections("inet") if c.status == "LISTEN"} == {"127.0.0.1"}
    finally:
        server.send_signal(signal.SIGINT)
        rest, _ = server.communicate(timeout=10)
    assert "Traceback" not in rest


def answer(url, patience=15.0):
    deadline = time.monotonic() + patience
    while True:
        try:
            return urllib.request.urlopen(url, timeout=2).read().decode()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
