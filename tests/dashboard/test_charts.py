import math

import pandas as pd
import pytest

from dashboard import charts, frames
from search.records import STATES, read_study


def trace(figure, name):
    return next(data for data in figure.data if data.name == name)


def test_best_so_far_draws_marks_a_stair_and_the_default_recipe(record):
    figure = charts.best_so_far(frames.best_so_far(record), "accuracy", default=0.7)
    assert [data.name for data in figure.data] == ["finished", "stopped", "best so far", "default recipe"]
    assert list(trace(figure, "stopped").y) == [0.9]
    assert list(trace(figure, "best so far").y) == [0.7, 0.8, 0.8]
    assert trace(figure, "best so far").line.shape == "hv"
    assert list(trace(figure, "default recipe").y) == [0.7, 0.7]


def test_without_a_default_value_its_line_is_left_out(record):
    figure = charts.best_so_far(frames.best_so_far(record), "accuracy", default=None)
    assert "default recipe" not in {data.name for data in figure.data}


@pytest.mark.parametrize(("minutes", "unit", "last"), [(180, "minutes", 180), (240, "hours", 4)])
def test_long_searches_are_drawn_in_hours(minutes, unit, last):
    frame = pd.DataFrame({"trial": [0], "state": ["finished"], "minutes": [minutes], "value": [0.5], "best": [0.5]})
    figure = charts.best_so_far(frame, "accuracy", default=0.5)
    assert figure.layout.xaxis.title.text.startswith(unit)
    assert list(trace(figure, "finished").x) == [last]


def test_curves_are_separate_lines_with_the_best_on_top_and_the_stopped_faded(played):
    played.run(0.1, 0.2, end="stopped")
    figure = charts.curves(frames.curves(read_study(played.name, played.url)), "accuracy")
    assert figure.data[-1].name == "best"
    stopped = trace(figure, "stopped")
    assert stopped.opacity < 0.5 < figure.data[-1].opacity
    assert [y if y is not None and not math.isnan(y) else None for y in stopped.y] == [0.1, 0.9, None, 0.1, 0.2, None]
    assert [row[0] for row in stopped.customdata] == [2, 2, 2, 5, 5, 5]


def test_a_metric_cannot_smuggle_markup_into_a_chart(record):
    figure = charts.curves(frames.curves(record), "<a href='x'>")
    assert "<" not in figure.layout.yaxis.title.text


def test_losses_have_a_line_a_split(record):
    figure = charts.losses(frames.losses(record.trials[1]))
    assert list(trace(figure, "training").y) == [1.5, 1.4, 1.3, 1.2]
    assert list(trace(figure, "validation").x) == [1, 2, 3, 4]


def test_every_role_has_a_look_of_its_own():
    assert set(charts.LOOKS) == {*STATES, "best", "default recipe"}
    told_apart = {(look.color, look.dash, look.opacity) for role, look in charts.LOOKS.items() if role != "queued"}
    assert len(told_apart) == len(charts.LOOKS) - 1
