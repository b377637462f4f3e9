import io
import json
import math
import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.display.json_lines import JsonLines, finite
from search.events import Event
from search.policy.stop_condition import StopCondition
from tests.search.conftest import IMAGE_SIZE, UNTRAINED, command, watched_plan
from trainables.config import TrialConfig
from trainables.errors import StorageError

CONFIG = TrialConfig(epochs=4)
TRIAL = {"event", "elapsed", "trial", "epoch", "epochs", "value", "metrics", "seconds"}
ENDED = TRIAL | {"reason", "best"}
KEYS = {
    "begin": {"event", "elapsed", "study", "folder", "task", "metric", "mode", "trials", "slots", "ended", "notes"},
    "began": {"event", "elapsed", "trial", "epoch", "epochs", "config"},
    "epoch": TRIAL,
    "retry": TRIAL | {"reason"},
    "finished": ENDED,
    "stopped": ENDED,
    "failed": ENDED,
    "paused": ENDED,
    "say": {"event", "elapsed", "text"},
    "pausing": {"event", "elapsed", "reason"},
    "finishing": {"event", "elapsed"},
    "end": {"event", "elapsed", "study", "state", "why", "best"},
}


class RecordWithoutResult:
    """The record of a study in which no trial has ended."""

    why = "the first trials all failed"

    def status_json(self):
        return {"study": "calm-fig", "state": "failed"}

    def best_json(self):
        raise StorageError("no trial of 'calm-fig' has ended yet")


def parse_strictly(text):
    return [json.loads(line, parse_constant=lambda name: 1 / 0) for line in text.splitlines()]


def test_each_event_is_one_line_with_the_documented_keys():
    out = io.StringIO()
    stop_condition = StopCondition("max", trials=4)
    lines = JsonLines(out)
    with lines as watcher:
        watcher.preparing(1, 2, "decoding")
        watcher.begin("calm-fig", watched_plan("/results"), 2, stop_condition, 0)
        watcher.event(Event("began", 0, CONFIG, epoch=1))
        watcher.event(Event("epoch", 0, CONFIG, epoch=2, value=math.nan, metrics={"loss": math.inf, "accuracy": 0.5}, seconds=1.5))
        watcher.event(Event("retry", 0, CONFIG, epoch=2, reason="lost worker"))
        stop_condition.completed(0.5)
        for kind in ("finished", "stopped", "failed", "paused"):
            watcher.event(Event(kind, 0, CONFIG, epoch=4, value=0.5, reason='a "rung"\nof two lines', seconds=3.0))
        watcher.say("the storage is away ×")
        watcher.pausing("interrupted by SIGINT")
        watcher.finishing()
    lines.end(RecordWithoutResult())
    found = parse_strictly(out.getvalue())
    assert [event["event"] for event in found] == list(KEYS)
    assert {event["event"]: set(event) for event in found} == KEYS
    by = {event["event"]: event for event in found}
    assert (by["begin"]["study"], by["begin"]["folder"], by["begin"]["slots"]) == ("calm-fig", "/results/calm-fig", 2)
    assert by["began"]["config"]["learning_rate"] == CONFIG.learning_rate
    assert (by["epoch"]["value"], by["epoch"]["metrics"]) == (None, {"loss": None, "accuracy": 0.5})
    assert (by["retry"]["reason"], by["retry"]["epoch"]) == ("lost worker", 2)
    assert (by["stopped"]["reason"], by["stopped"]["best"], by["stopped"]["seconds"]) == ('a "rung"\nof two lines', 0.5, 3.0)
    assert by["say"]["text"] == "the storage is away ×"
    assert by["end"]["best"] is None


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(json_values)
def test_only_numbers_that_are_not_finite_become_null(value):
    def expected(value):
        if isinstance(value, dict):
            return {key: expected(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [expected(inner) for inner in value]
        return None if isinstance(value, float) and not math.isfinite(value) else value

    text = json.dumps(finite(value), allow_nan=False)
    assert json.loads(text) == expected(value)


@pytest.mark.slow
def test_a_search_with_json_writes_only_json_to_standard_output(home, photos):
    arguments = [
        *UNTRAINED,
        "--trials",
        "2",
        "--image-size",
        IMAGE_SIZE,
        "--set",
        "space.epochs=2",
        "--name",
        "calm-fig",
        "--track",
        "tensorboard",
    ]
    done = command("search", photos, "--json", *arguments)
    assert done.returncode == 0, done.stderr
    found = parse_strictly(done.stdout)
    assert {event["event"]: set(event) for event in found if event["event"] not in ("say", "end")} == {
        name: KEYS[name] for name in ("begin", "began", "epoch", "finished", "finishing")
    }
    assert (found[0]["event"], found[-1]["event"]) == ("begin", "end")
    for number in (0, 1):
        kinds = [event["event"] for event in found if event.get("trial") == number and "epochs" in event]
        assert kinds == ["began", "epoch", "epoch", "finished"]
    epoch = next(event for event in found if event["event"] == "epoch")
    assert {"objective", "train_loss", "images_per_second", "accuracy"} <= set(epoch["metrics"])
    end = found[-1]
    status = json.loads(command("status", "calm-fig", "--json").stdout)
    assert {key: end[key] for key in status} == status
    assert end["best"] == json.loads(command("best", "calm-fig", "--json").stdout)
    assert [path.name for path in (home / "injerto-output" / "calm-fig" / "tensorboard").iterdir()] != []


def test_an_error_leaves_standard_output_empty(home):
    done = command("search", "nowhere", "--json")
    assert (done.returncode, done.stdout) == (2, "")
    assert "no file or folder" in done.stderr


PROGRAM_WITH_OTHER_OUTPUT = """
import os, subprocess, sys
from search.display.json_lines import JsonLines, only_json
with only_json() as stream:
    print("printed")
    os.write(1, b"written\\n")
    subprocess.run(["echo", "by a child"])
    lines = JsonLines(stream)
    lines.say("said")
    lines.__exit__()
print("afterwards")
"""


def test_only_json_redirects_other_output_to_standard_error():
    done = subprocess.run([sys.executable, "-c", PROGRAM_WITH_OTHER_OUTPUT], capture_output=True, text=True, check=True)
    said, after = done.stdout.splitlines()
    assert (json.loads(said), after) == ({"event": "say", "text": "said"}, "afterwards")
    assert sorted(done.stderr.split("\n")[:-1]) == ["by a child", "printed", "written"]


PROGRAM_THAT_LOSES_ITS_READER = """
import sys
from search.display.json_lines import JsonLines, only_json
with only_json() as stream:
    lines = JsonLines(stream)
    for number in range(20_000):
        lines.say("x" * 100)
    lines.__exit__()
sys.stderr.write("to the end")
"""


def test_a_closed_pipe_does_not_end_the_search():
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM_THAT_LOSES_ITS_READER], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ
    )
    assert json.loads(process.stdout.readline())["event"] == "say"
    process.stdout.close()
    assert process.stderr.read() == "to the end"
    assert process.wait(timeout=60) == 0
    process.stderr.close()


def test_the_docstring_names_every_event_and_key():
    import search.display.json_lines

    words = search.display.json_lines.__doc__.replace("|", " ").replace("`", " ")
    for name, keys in KEYS.items():
        assert name in words
        for key in keys - {"event", "state"}:
            assert key in words, key
