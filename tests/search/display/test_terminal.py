import re
from io import StringIO

from optuna.trial import TrialState
from rich.console import Console

import search.display.terminal
from search.display.terminal import Terminal, status_line
from search.events import Event
from search.policy.stop_condition import StopCondition
from tests.search.conftest import watched_plan
from tests.search.running_study import RunningStudy
from tests.waiting import wait_until
from trainables.config import TrialConfig

CONFIG = TrialConfig(epochs=4)
SPEED = {"images_per_second": 1200.0}


def show_search(terminal, stop_condition):
    """Pass the events of a whole search to a terminal."""
    terminal.preparing(1, 48, "decoding")
    with terminal:
        terminal.begin("calm-fig", watched_plan(), 2, stop_condition, 0)
        for number, end in enumerate(["finished", "stopped", "failed", "paused"]):
            terminal.event(Event("began", number, CONFIG))
            terminal.event(Event("epoch", number, CONFIG, epoch=1, value=0.5))
            terminal.event(Event(end, number, CONFIG, epoch=1, value=0.5, reason="because [x]\x1b[2J", seconds=2.0))
        terminal.event(Event("retry", 5, CONFIG, epoch=2, reason="lost worker"))
        terminal.say("the storage [red]is away[/red]")
        terminal.pausing("interrupted by SIGINT")
        terminal.finishing()


def test_without_a_terminal_the_search_is_written_as_lines():
    text = StringIO()
    show_search(Terminal(Console(file=text, force_terminal=False, width=80)), StopCondition("max", trials=4))
    lines = text.getvalue().splitlines()
    assert lines[0] == "study calm-fig: multiclass on images of 32 px, by accuracy (max)"
    assert lines[1] == "backbones: efficientnet_lite0, weights: imagenet"
    assert lines[2] == "left out [bold]1[/bold] file"
    assert lines[3] == "4 trials, 2 at a time; trial 0 is the default recipe"
    ends = lines[4:8]
    assert [line.split()[:4] for line in ends] == [
        [f"[{ended}/4]", "trial", str(number), kind]
        for number, (ended, kind) in enumerate([(1, "finished"), (2, "stopped"), (3, "failed"), (3, "paused")])
    ]
    assert all("accuracy 0.5 after 1/4 epochs, 2 s (because [x] [2J)" in line for line in ends)
    assert [("best 0.5 (trial 0)" in line, "left" in line or "done" in line) for line in ends] == [*[(True, True)] * 3, (False, False)]
    assert lines[8:] == [
        "trial 5 continues from epoch 2/4: lost worker",
        "the storage [red]is away[/red]",
        "interrupted by SIGINT: trials pause at their next epoch; a second interrupt ends the search at once",
        "evaluating the test images once, with the winner and the default recipe",
    ]
    assert "\x1b" not in text.getvalue()


def view_of(terminal, width, height=30):
    out = StringIO()
    console = terminal._console
    console.size = (width, height)
    Console(file=out, width=width, force_terminal=False).print(terminal._render())
    return out.getvalue()


def live_terminal():
    """Return a terminal in the middle of a search of eight trials."""
    terminal = Terminal(Console(file=StringIO(), force_terminal=True, width=100, height=30))
    stop_condition = StopCondition("max", trials=8, seconds=600, no_improvement=5)
    terminal.begin("calm-fig", watched_plan(), 2, stop_condition, 0)
    for number, curve in enumerate([(0.2, 0.4), (0.3, 0.8)]):
        terminal.event(Event("began", number, CONFIG))
        for epoch, value in enumerate(curve, 1):
            terminal.event(Event("epoch", number, CONFIG, epoch=epoch, value=value, metrics=SPEED))
        stop_condition.completed(curve[-1])
        terminal.event(Event("finished", number, CONFIG, epoch=2, value=curve[-1], seconds=2.0))
    for number in (2, 3):
        terminal.event(Event("began", number, CONFIG))
        for epoch, value in enumerate((0.1, 0.3, 0.2), 1):
            terminal.event(Event("epoch", number, CONFIG, epoch=epoch, value=value, metrics=SPEED))
    for number in range(4, 8):
        terminal.event(Event("failed", number, CONFIG, reason=f"non-finite: loss {number}"))
    return terminal


def test_the_live_view_fits_narrow_and_wide_terminals():
    terminal = live_terminal()
    for width in (80, 120, 200):
        view = view_of(terminal, width)
        assert max(map(len, view.splitlines())) <= width
        assert "2 finished, 4 failed, 2 running" in view
        assert re.search(r"accuracy 0\.8 \(trial 1, after \d+ s\), 0\.4 over the\s+default recipe", view)
        assert "0.3 ▁█ 0.8" in view
        assert "2,400 images/s" in view
        assert re.search(r"0 s of 10 min$", view, re.MULTILINE)
        assert "2 of 8 trials" in view
        assert re.search(r"^ +3 +3/4 +0\.2 +▁█▅ .*efficientnet_lite0", view, re.MULTILINE)
        failures = re.findall(r"trial (\d) failed", view)
        assert failures == ["5", "6", "7"]
    terminal.__exit__()
    written = terminal._console.file.getvalue()
    assert "study calm-fig" in written
    assert "trial 7 failed" in written


def test_an_epoch_that_runs_again_replaces_the_first_one():
    terminal = live_terminal()
    terminal.event(Event("retry", 3, CONFIG, epoch=1, reason="lost worker"))
    terminal.event(Event("epoch", 3, CONFIG, epoch=2, value=0.9, metrics=SPEED))
    row = next(row for row in terminal.snapshot().running if row.number == 3)
    assert (row.epoch, row.curve) == (2, [0.1, 0.9, 0.2])
    assert terminal.snapshot().problems[-1] == "trial 3 continues from epoch 1/4: lost worker"
    terminal.__exit__()


def test_a_snapshot_does_not_change_with_later_events():
    terminal = live_terminal()
    before = terminal.snapshot()
    terminal.event(Event("epoch", 2, CONFIG, epoch=4, value=0.99, metrics=SPEED))
    terminal.event(Event("finished", 2, CONFIG, epoch=4, value=0.99))
    assert [len(row.curve) for row in before.running] == [3, 3]
    assert (before.counts["running"], before.best.number) == (2, 1)
    after = terminal.snapshot()
    assert (after.counts["running"], after.best.number, list(after.best.curve)) == (1, 2, [0.1, 0.3, 0.2, 0.99])
    terminal.__exit__()


def test_the_time_budget_limits_the_estimated_time_left():
    text = StringIO()
    terminal = Terminal(Console(file=text, force_terminal=False, width=200))
    with terminal:
        terminal.begin("calm-fig", watched_plan(), 1, StopCondition("max", trials=1000, seconds=60), 0)
        terminal.event(Event("began", 0, CONFIG))
        terminal.event(Event("finished", 0, CONFIG, epoch=4, seconds=30.0))
    assert re.search(r"about (1 min|59 s) left", text.getvalue())


def test_a_lower_value_is_better_if_the_metric_is_minimized():
    plan = watched_plan()
    plan.metric, plan.mode = "loss", "min"
    terminal = Terminal(Console(file=StringIO(), force_terminal=False))
    terminal.begin("calm-fig", plan, 1, StopCondition("min", trials=3), 0)
    for number, value in enumerate((0.5, 0.2, 0.4)):
        terminal.event(Event("finished", number, CONFIG, value=value))
    assert (terminal.snapshot().best.number, round(terminal.snapshot().best.gain, 6)) == (1, -0.3)
    assert "0.3 under the default recipe" in view_of(terminal, 120)
    terminal.__exit__()


def test_without_a_terminal_a_status_line_is_written_after_a_silence(monkeypatch):
    monkeypatch.setattr(search.display.terminal, "SILENCE_SECONDS", 0.05)
    text = StringIO()
    terminal = Terminal(Console(file=text, force_terminal=False, width=80))
    terminal.begin("calm-fig", watched_plan(), 1, StopCondition("max", trials=3), 0)
    terminal.event(Event("began", 0, CONFIG))
    terminal.event(Event("epoch", 0, CONFIG, epoch=1, value=0.25, metrics=SPEED))
    wait_until(lambda: "trial 0 epoch 1/4" in text.getvalue(), 10, "a status line")
    terminal.__exit__()
    assert re.search(
        r"^0 s: 1 running, 2 queued; trial 0 epoch 1/4 0\.25; 1,200 images/s; (about \d+ s left|almost done)$",
        text.getvalue(),
        re.MULTILINE,
    )


def test_the_status_line_names_four_running_trials_and_counts_the_rest():
    terminal = live_terminal()
    for number in range(10, 16):
        terminal.event(Event("began", number, CONFIG))
    line = status_line(terminal.snapshot(), 75.0)
    assert line.startswith("1 min 15 s: 2 finished, 4 failed, 8 running; trial 2 epoch 3/4 0.2, trial 3 epoch 3/4 0.2, trial 10 epoch 0/4")
    assert "and 4 more; best accuracy 0.8 (trial 1" in line
    terminal.__exit__()


def test_a_resumed_search_starts_from_the_earlier_run(tmp_path):
    with RunningStudy(tmp_path) as running_study:
        running_study.add_ended(TrialState.COMPLETE, 0.2, 0.4)
        running_study.add_ended(TrialState.COMPLETE, 0.3, 0.7)
        running_study.add_ended(TrialState.PRUNED, 0.1)
        running_study.add_running(0.5, 0.6)
        plan = watched_plan(tmp_path)
        plan.config = plan.config.model_copy(update={"storage": running_study.url})
        terminal = Terminal(Console(file=StringIO(), force_terminal=False))
        terminal.begin("calm-fig", plan, 1, StopCondition("max", trials=9), 3)
    before = terminal.snapshot()
    assert (before.best.number, list(before.best.curve)) == (1, [0.3, 0.7])
    assert {state: count for state, count in before.counts.items() if count} == {"finished": 2, "stopped": 1, "queued": 6}
    terminal.event(Event("began", 3, CONFIG, epoch=2))
    terminal.event(Event("epoch", 3, CONFIG, epoch=3, value=0.9))
    (row,) = terminal.snapshot().running
    assert (row.epoch, row.curve) == (3, [0.5, 0.6, 0.9])
    terminal.event(Event("finished", 3, CONFIG, value=0.9))
    assert (terminal.snapshot().best.number, round(terminal.snapshot().best.gain, 6)) == (3, 0.5)
    terminal.__exit__()
