from io import StringIO

import pytest
from rich.console import Console

from search.display.view import Best, RunningRow, Snapshot, render_snapshot
from search.events import Gauge

SNAPSHOT = Snapshot(
    metric="accuracy",
    counts={"finished": 3, "stopped": 1, "failed": 1, "running": 2, "queued": 5, "paused": 0},
    gauges=[Gauge("trials", 5, 12, "trials"), Gauge("time", 185.0, 1800.0, "s"), Gauge("GPU-hours", 0.432, 2.0, "GPU-h")],
    best=Best(3, 0.95123, after_seconds=42.0, gain=0.0212, curve=[0.3, 0.5, 0.7, 0.9, 0.95123]),
    seconds_left=610.0,
    running=[RunningRow(5, 2, 8, "resnet18 [bold]x[/bold]", [0.25, 0.5], 820.4), RunningRow(6, 0, 10, "resnet18, sgd 0.01")],
    problems=["trial 4 failed: other: \x1b[2Jboom [red]", "trial 5 continues from epoch 1/8: lost worker"],
)


def view_of(snapshot, width, height=40):
    out = StringIO()
    Console(file=out, width=width, force_terminal=False).print(render_snapshot(snapshot, width, height))
    return out.getvalue()


@pytest.mark.parametrize("width", [80, 100, 120, 160])
def test_the_view_fits_the_width_and_shows_every_part(width):
    shown = view_of(SNAPSHOT, width)
    lines = shown.splitlines()
    assert max(map(len, lines)) <= width
    for part in (
        "3 finished, 1 stopped, 1 failed, 2 running, 5 queued",
        "accuracy 0.9512 (trial 3, after 42 s)",
        "0.0212 over the default recipe",
        "0.3 ▁▃▅▇█ 0.951",
        "820 images/s, about 10 min 10 s left",
        "5 of 12 trials",
        "3 min 5 s of 30 min",
        "0.432 of 2 GPU-h",
        "trial 4 failed: other: [2Jboom [red]",
        "trial 5 continues from epoch 1/8: lost worker",
        "resnet18 [bold]x[/bold]",
    ):
        assert part in " ".join(shown.split()) or part in shown
    assert "\x1b" not in shown
    assert "0 paused" not in shown
    row = next(line.split() for line in lines if "resnet18 [bold]" in line)
    assert row[:4] == ["5", "2/8", "0.5", "▁█"]
    assert ("820" in row) == (width >= 100)


def test_the_length_of_a_bar_is_the_used_share_of_its_budget():
    out = Console(file=StringIO(), width=120, force_terminal=True, color_system="truecolor")
    for used, length in ((6, 20), (12, 40), (99, 40), (0, 0)):
        snapshot = Snapshot("loss", {}, [Gauge("trials", used, 12, "trials")])
        bar = [segment for segment in out.render(render_snapshot(snapshot, 120, 40)) if set(segment.text) <= set("━╺╸") and segment.text]
        empty = [segment.text for segment in bar if segment.style == out.get_style("bar.back")]
        assert (len("".join(segment.text for segment in bar)), len("".join(empty))) == (40, 40 - length)


def test_the_view_before_the_first_epoch():
    shown = view_of(Snapshot("accuracy", {"running": 0}), 80)
    assert "none yet" in shown
    assert "time left: measuring" in shown
    assert "configuration" not in shown


def test_running_trials_that_do_not_fit_are_counted():
    rows = [RunningRow(number, 1, 8, "resnet18", [0.5]) for number in range(40)]
    shown = view_of(Snapshot("accuracy", {"running": 40}, SNAPSHOT.gauges, SNAPSHOT.best, 1.0, rows), 80, height=24)
    lines = shown.splitlines()
    assert len(lines) <= 24
    drawn = sum("resnet18" in line for line in lines)
    assert drawn >= 5
    assert [line.strip() for line in lines[-2:]] == [f"and {40 - drawn} more running", ""]


def test_the_total_speed_leaves_out_unknown_speeds():
    rows = [RunningRow(0, 1, 8, "", speed=100.0), RunningRow(1, 1, 8, "", speed=float("nan")), RunningRow(2, 0, 8, "")]
    assert Snapshot("accuracy", {}, running=rows).speed == 100.0


def test_no_gain_is_shown_if_the_default_recipe_is_the_best():
    shown = view_of(Snapshot("accuracy", {}, best=Best(0, 0.5, 3.0, 0.0)), 80)
    assert "accuracy 0.5 (trial 0, after 3 s)" in shown
    assert "default recipe" not in shown
