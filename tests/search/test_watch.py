import re
from dataclasses import replace
from io import StringIO
from types import SimpleNamespace

import numpy as np
import pytest
from rich.console import Console

import search.watch
from search.config import SearchConfig
from search.events import Event
from search.stopping import Ending
from search.watch import Estimate, Terminal, in_brief
from tests.search.conftest import make_space
from trainables.config import TrialConfig

CONFIG = TrialConfig(epochs=4)


@pytest.fixture
def clock(monkeypatch):
    now = SimpleNamespace(seconds=100.0)
    monkeypatch.setattr(search.watch.time, "monotonic", lambda: now.seconds)
    return now


def test_estimate_of_running_and_waiting_trials(clock):
    estimate = Estimate(trials=6, slots=2)
    estimate.hear(Event("began", 0, CONFIG))
    estimate.hear(Event("began", 1, CONFIG))
    assert estimate.seconds_left() is None
    clock.seconds += 10
    estimate.hear(Event("epoch", 0, CONFIG, epoch=1))
    assert estimate.seconds_left() == pytest.approx((3 * 10 + (4 + 1) * 40) / 2)
    estimate.hear(Event("finished", 0, CONFIG, epoch=4, seconds=20.0))
    estimate.hear(Event("stopped", 1, CONFIG, epoch=2, seconds=30.0))
    assert estimate.ended == 2
    assert estimate.seconds_left() == pytest.approx(4 * 25 / 2)


def test_trials_to_come_are_expected_to_take_their_share_until_five_have_ended(clock):
    estimate = Estimate(trials=10, slots=1, share=0.5)
    for number in range(4):
        estimate.hear(Event("began", number, CONFIG))
        estimate.hear(Event("finished", number, CONFIG, seconds=8.0))
    assert estimate.seconds_left() == pytest.approx(6 * 8 * 0.5)
    estimate.hear(Event("began", 4, CONFIG))
    estimate.hear(Event("stopped", 4, CONFIG, seconds=3.0))
    assert estimate.seconds_left() == pytest.approx(5 * (4 * 8 + 3) / 5)


def test_a_resumed_trial_is_paced_by_its_new_epochs(clock):
    estimate = Estimate(trials=1, slots=1)
    estimate.hear(Event("began", 0, CONFIG, epoch=2))
    clock.seconds += 5
    estimate.hear(Event("epoch", 0, CONFIG, epoch=3))
    assert estimate.seconds_left() == pytest.approx(5)


def test_a_search_that_has_ended_has_no_seconds_left(clock):
    estimate = Estimate(trials=2, slots=2, ended=1)
    estimate.hear(Event("began", 1, CONFIG))
    estimate.hear(Event("finished", 1, CONFIG, seconds=3.0))
    assert estimate.seconds_left() == 0


def plan():
    rows = {"train": np.arange(30), "validation": np.arange(9), "test": np.arange(9)}
    data = SimpleNamespace(task="multiclass", rows=rows, image_size=32, notes=("left out [bold]1[/bold] file",))
    return SimpleNamespace(config=SearchConfig(), dataset=data, metric="accuracy", mode="max", space=make_space())


def watch(terminal, ending):
    """Let a terminal see a whole search."""
    terminal.preparing(1, 48, "decoding")
    with terminal:
        terminal.begin("calm-fig", plan(), 2, ending, 0)
        for number, end in enumerate(["finished", "stopped", "failed", "paused"]):
            config = replace(Event("began", number, CONFIG), number=number)
            terminal.event(config)
            terminal.event(Event("epoch", number, CONFIG, epoch=1, value=0.5))
            ending.completed(0.5)
            terminal.event(Event(end, number, CONFIG, epoch=1, value=0.5, reason="because [x]", seconds=2.0))
        terminal.pausing("interrupted by SIGINT")
        terminal.finishing()


def test_a_line_an_event_where_there_is_no_terminal():
    text = StringIO()
    watch(Terminal(Console(file=text, force_terminal=False, width=80)), Ending("max", trials=4))
    lines = text.getvalue().splitlines()
    assert lines[0] == "study calm-fig: multiclass on images of 32 px, by accuracy (max)"
    assert "left out [bold]1[/bold] file" in lines
    events = [line for line in lines if line.startswith("[")]
    assert [line.split()[1:4] for line in events] == [
        ["trial", str(n), kind] for n, kind in enumerate(["finished", "stopped", "failed", "paused"])
    ]
    assert all(line.startswith(f"[{n}/4]") and "because [x]" in line and "best 0.5" in line for n, line in enumerate(events, 1))
    assert any("interrupted by SIGINT: trials pause at their next epoch" in line for line in lines)
    assert "opening the test images once" in lines[-1]


def test_a_live_view_on_a_terminal():
    text = StringIO()
    terminal = Terminal(Console(file=text, force_terminal=True, width=100, highlight=False))
    watch(terminal, Ending("max", trials=4, seconds=60))
    assert "study calm-fig" in text.getvalue()
    terminal.begin("calm-fig", plan(), 2, Ending("max", trials=4, seconds=60), 0)
    terminal.event(Event("began", 7, CONFIG))
    terminal.event(Event("epoch", 7, CONFIG, epoch=1, value=0.25))
    terminal.event(Event("failed", 8, CONFIG, reason="other: boom"))
    view, narrow = StringIO(), StringIO()
    Console(file=view, width=140).print(terminal._view())
    Console(file=narrow, width=80).print(terminal._view())
    assert re.search(r"^7 +1/4 +0\.25 +mobilenet_v3_small", narrow.getvalue(), re.MULTILINE)
    terminal.__exit__()
    assert "trials 1/4" in view.getvalue()
    assert re.search(r"7 +1/4 +0\.25 +mobilenet_v3_small", view.getvalue())
    assert "trial 8 failed" in text.getvalue()
    assert "left" in view.getvalue()


def test_a_time_budget_bounds_the_estimate(clock):
    text = StringIO()
    terminal = Terminal(Console(file=text, width=200))
    terminal.begin("calm-fig", plan(), 1, Ending("max", trials=1000, seconds=60, started=clock.seconds), 0)
    terminal.event(Event("began", 0, CONFIG))
    terminal.event(Event("finished", 0, CONFIG, epoch=4, seconds=30.0))
    assert "about 0:01:00 left" in text.getvalue()


def test_a_configuration_in_brief():
    assert in_brief(CONFIG.model_dump()) == "mobilenet_v3_small, adamw 0.001, unfrozen 5, perceptron, batch 32, augment 0.25"
    assert "head 2×256" in in_brief(CONFIG.model_copy(update={"head_layers": 2}).model_dump())
