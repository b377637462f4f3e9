import math
from datetime import timedelta

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dashboard.charts import study_charts
from dashboard.charts.palette import COLOR_CYCLE
from dashboard.charts.theme import STYLES, escape_html, figure
from dashboard.data import study_data
from search.record.reader import read_study
from search.record.records import STATES
from tests.dashboard.records import BEGAN, study, trial

NASTY = "<script>alert(1)</script> & 🌱"
SHOWN = "&lt;script&gt;alert(1)&lt;/script&gt; &amp; 🌱"


def trace(figure, name):
    return next(data for data in figure.data if data.name == name)


def progress(minutes, values):
    ended = range(1, len(values) + 1)
    best = pd.Series(values, dtype=float).cummax()
    return pd.DataFrame({"trial": ended, "state": "finished", "minutes": minutes, "value": values, "best": best, "ended": ended})


def drawn_curves(record):
    return study_data.learning_curves(record, study_data.trials_to_draw(record))


def test_best_so_far_draws_markers_steps_and_the_default_recipe(record):
    figure = study_charts.best_so_far(study_data.best_so_far(record), "accuracy", default=0.7)
    assert [data.name for data in figure.data] == ["finished", "stopped", "best so far", "default recipe"]
    assert list(trace(figure, "stopped").y) == [0.9]
    assert list(trace(figure, "best so far").y) == [0.7, 0.8, 0.8]
    assert trace(figure, "best so far").line.shape == "hv"
    assert list(trace(figure, "default recipe").y) == [0.7, 0.7]


def test_best_so_far_can_be_drawn_against_trials(record):
    figure = study_charts.best_so_far(study_data.best_so_far(record), "accuracy", default=0.7, against="trials")
    assert list(trace(figure, "finished").x) == [1, 2]
    assert list(trace(figure, "default recipe").x) == [0, 3]
    assert figure.layout.xaxis.title.text == "trials that have ended"


def test_without_a_default_value_its_line_is_omitted(record):
    figure = study_charts.best_so_far(study_data.best_so_far(record), "accuracy", default=None)
    assert "default recipe" not in {data.name for data in figure.data}


@pytest.mark.parametrize(("minutes", "unit", "last"), [(180, "minutes", 180), (240, "hours", 4)])
def test_long_searches_are_drawn_in_hours(minutes, unit, last):
    figure = study_charts.best_so_far(progress([minutes], [0.5]), "accuracy", default=0.5)
    assert figure.layout.xaxis.title.text.startswith(unit)
    assert list(trace(figure, "finished").x) == [last]


@settings(deadline=None, max_examples=50)
@given(st.integers(1001, 5000), st.integers(0, 2**32 - 1))
def test_thinning_keeps_each_new_best_and_the_latest_trials(count, seed):
    frame = progress(range(count), list(np.random.default_rng(seed).random(count)))
    kept = study_charts.thinned(frame)
    better = frame[frame["best"] > frame["best"].shift(fill_value=-1)]
    assert set(better["trial"]) <= set(kept["trial"])
    assert list(kept["trial"])[-study_charts.MOST_MARKS // 2 :] == list(frame["trial"])[-study_charts.MOST_MARKS // 2 :]
    assert len(kept) <= study_charts.MOST_MARKS + len(better)
    assert kept["trial"].is_monotonic_increasing


def test_few_trials_are_not_thinned():
    frame = progress(range(1000), [0.5] * 1000)
    assert study_charts.thinned(frame) is frame


def test_the_steps_of_a_thinned_chart_are_complete():
    values = [number / 5000 for number in range(5000)]
    figure = study_charts.best_so_far(progress(range(5000), values), "accuracy", default=None)
    assert list(trace(figure, "best so far").y) == values


def test_curves_are_separate_lines_with_the_best_on_top_and_stopped_ones_transparent(played):
    played.run(0.1, 0.2, end="stopped")
    figure = study_charts.curves(drawn_curves(read_study(played.name, played.url)), "accuracy")
    assert figure.data[-1].name == "best"
    stopped = trace(figure, "stopped")
    assert stopped.opacity < 0.5 < figure.data[-1].opacity
    assert [y if y is not None and not math.isnan(y) else None for y in stopped.y] == [0.1, 0.9, None, 0.1, 0.2, None]
    assert list(stopped.customdata) == [2, 2, 2, 5, 5, 5]


def test_the_rungs_are_lines_in_the_curves(record):
    figure = study_charts.curves(drawn_curves(record), "accuracy", [25.0, 50.0])
    assert [shape.x0 for shape in figure.layout.shapes] == [25.0, 50.0]
    assert [note.text for note in figure.layout.annotations] == ["rung 25 %", "rung 50 %"]


@pytest.mark.parametrize("against", study_charts.AXES)
def test_studies_are_compared_by_name_each_in_a_colour(against):
    found = {NASTY: progress([1, 2], [0.1, 0.3]), "calm-fig": progress([1], [0.2])}
    figure = study_charts.compared(found, "accuracy", against=against)
    assert [data.name for data in figure.data] == [SHOWN, "calm-fig"]
    assert [list(data.y) for data in figure.data] == [[0.1, 0.3], [0.2]]
    assert [list(data.x) for data in figure.data] == [[1, 2], [1]]
    assert figure.data[0].line.color != figure.data[1].line.color
    assert "<script" not in figure.to_json().replace("\\u003c", "<")


def test_a_long_and_a_short_study_are_compared_in_one_unit():
    found = {"long": progress([60, 600], [0.1, 0.3]), "short": progress([60], [0.2])}
    figure = study_charts.compared(found, "accuracy", against="time")
    assert trace(figure, "long").x[0] == trace(figure, "short").x[0]
    scale = 60 if figure.layout.xaxis.title.text.startswith("hours") else 1
    assert list(trace(figure, "long").x) == [60 / scale, 600 / scale]


def test_a_study_without_an_ended_trial_can_be_compared():
    figure = study_charts.compared({"empty": study_data.best_so_far(study()), "calm-fig": progress([1], [0.2])}, "accuracy")
    assert [len(data.y) for data in figure.data] == [0, 1]


def test_more_studies_than_colours_are_drawn():
    found = {str(number): progress([1], [0.5]) for number in range(len(COLOR_CYCLE) + 2)}
    figure = study_charts.compared(found, "accuracy")
    assert len(figure.data) == len(found)
    assert figure.data[-1].line.color == COLOR_CYCLE[1]


def test_chosen_trials_share_a_chart_in_different_colours(record):
    figure = study_charts.overlaid(study_data.learning_curves(record, record.trials[:2]), "accuracy")
    assert [data.name for data in figure.data] == ["trial 0", "trial 1"]
    assert list(figure.data[1].y) == [0.5, 0.6, 0.7, 0.8]
    assert len({data.line.color for data in figure.data}) == 2


def test_the_timeline_has_a_lane_per_worker_and_a_bar_per_period(record):
    figure = study_charts.timeline(study_data.work_spans(record))
    finished = trace(figure, "finished")
    assert list(finished.y) == ["node-1:11", "node-1:12"]
    assert list(finished.x) == [40_000, 40_000]
    assert list(finished.text) == [0, 1]
    assert list(figure.layout.yaxis.categoryarray) == ["node-1:12", "node-1:11"]
    assert {data.name for data in figure.data} == {"finished", "stopped", "failed", "running"}


def test_markup_in_a_worker_and_a_reason_is_escaped_in_the_timeline():
    frame = pd.DataFrame([(0, "failed", NASTY, BEGAN, BEGAN + timedelta(seconds=5), NASTY)], columns=study_data.work_spans(study()).columns)
    figure = study_charts.timeline(frame)
    assert list(figure.data[0].y) == [SHOWN]
    assert figure.data[0].customdata[0][2] == SHOWN
    assert list(figure.layout.yaxis.categoryarray) == [SHOWN]


@pytest.mark.parametrize("draw", ["best_so_far", "curves", "overlaid", "timeline"])
def test_markup_in_a_metric_is_escaped_in_every_chart(record, draw):
    drawn = {
        "best_so_far": lambda: study_charts.best_so_far(study_data.best_so_far(record), NASTY, default=0.5),
        "curves": lambda: study_charts.curves(drawn_curves(record), NASTY),
        "overlaid": lambda: study_charts.overlaid(drawn_curves(record), NASTY),
        "timeline": lambda: study_charts.timeline(study_data.work_spans(record)),
    }[draw]()
    title = drawn.layout.yaxis.title.text
    assert title == ("" if draw == "timeline" else f"validation {SHOWN}")


@pytest.mark.parametrize("record", [study(), study(trial(0, "queued", None)), study(trial(0))], ids=["none", "queued", "one"])
def test_studies_with_no_and_one_trial_can_be_drawn(record):
    points = study_data.best_so_far(record)
    for against in study_charts.AXES:
        assert "best so far" in {data.name for data in study_charts.best_so_far(points, "accuracy", default=0.5, against=against).data}
    lines = drawn_curves(record)
    assert len(study_charts.curves(lines, "accuracy").data) == lines["role"].nunique()
    assert len(study_charts.overlaid(lines, "accuracy").data) == lines["trial"].nunique()


def test_a_timeline_without_work_can_be_drawn():
    assert len(study_charts.timeline(study_data.work_spans(study())).data) == 0


def test_every_role_has_a_different_style():
    assert set(STYLES) == {*STATES, "best", "default recipe"}
    told_apart = {(look.color, look.dash, look.opacity) for role, look in STYLES.items() if role != "queued"}
    assert len(told_apart) == len(STYLES) - 1


@settings(deadline=None, max_examples=50)
@given(st.text())
def test_escaped_texts_hold_no_tag_and_can_be_read_back(text):
    assert not set("<>") & set(escape_html(text))
    assert escape_html(text).replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&") == text
    assert figure(text).layout.yaxis.title.text == escape_html(text)
