import math

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dashboard.charts import space_charts
from dashboard.data import space_analysis, trial_table
from tests.dashboard.records import study, trial

NASTY = "<script>alert(1)</script> & 🌱"
SHOWN = "&lt;script&gt;alert(1)&lt;/script&gt; &amp; 🌱"


def axes(frame, fields, logarithmic=(), mode="max"):
    figure = space_charts.parallel(frame, fields, "accuracy", mode, logarithmic)
    return {dimension.label: dimension for dimension in figure.data[0].dimensions}


def valued(**columns):
    count = len(next(iter(columns.values())))
    return pd.DataFrame({"trial": range(count), "state": "finished", "value": [n / 10 for n in range(count)], **columns})


def test_importance_is_a_bar_per_parameter_with_the_first_on_top():
    figure = space_charts.importance(pd.DataFrame({"parameter": ["rate", NASTY], "importance": [0.7, 0.3]}))
    assert list(figure.data[0].y) == ["rate", SHOWN]
    assert list(figure.data[0].x) == [0.7, 0.3]
    assert figure.layout.yaxis.autorange == "reversed"


def test_lines_pass_through_each_field_and_the_value():
    found = axes(valued(rate=[0.1, 0.2, 0.3], kind=["y", "x", "y"]), ["rate", "kind"])
    assert list(found) == ["rate", "kind", "accuracy"]
    assert list(found["rate"].values) == [0.1, 0.2, 0.3]
    assert list(found["kind"].values) == [1, 0, 1]
    assert list(found["kind"].ticktext) == ["x", "y"]
    assert list(found["accuracy"].values) == [0.0, 0.1, 0.2]


def test_a_field_that_does_not_apply_is_drawn_below_the_range():
    found = axes(valued(momentum=[0.5, None, 0.9], kind=["x", None, "y"]), ["momentum", "kind"])
    assert found["momentum"].ticktext[0] == found["kind"].ticktext[0] == space_charts.NOT_USED == "not used"
    assert found["momentum"].values[1] == found["momentum"].tickvals[0] < 0.5
    assert list(found["kind"].values) == [1, 0, 2]


def test_an_axis_without_values_has_one_tick():
    found = axes(valued(rate=[None, None]), ["rate"])
    assert list(found["rate"].ticktext) == ["not used"]
    assert list(found["rate"].values) == [0, 0]


def test_a_logarithmic_axis_has_ticks_at_its_values():
    found = axes(valued(rate=[1e-4, 1e-2, None, *(10 ** (-4 + step / 5) for step in range(1, 10))]), ["rate"], ["rate"])["rate"]
    assert list(found.values)[:2] == pytest.approx([-4, -2])
    assert list(found.ticktext) == ["not used", "0.0001", "0.0003162", "0.001", "0.003162", "0.01"]


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(1e-6, 1.0) | st.none(), min_size=1, max_size=20), st.booleans())
def test_every_line_lies_on_its_axis(rates, logarithmic):
    found = axes(valued(rate=rates), ["rate"], ["rate"] if logarithmic else [])["rate"]
    assert len(found.values) == len(rates)
    assert not any(math.isnan(value) for value in found.values)
    assert min(found.tickvals) - 1e-9 <= min(found.values) <= max(found.values) <= max(found.tickvals) + 1e-9
    assert ("not used" in found.ticktext) == (None in rates)
    assert len(found.tickvals) == len(found.ticktext)


def test_an_axis_with_one_value_has_one_tick():
    found = axes(valued(rate=[0.5, 0.5]), ["rate"])["rate"]
    assert list(found.tickvals) == [0.5]
    assert list(found.ticktext) == ["0.5"]


def test_booleans_are_choices():
    assert list(axes(valued(flag=[True, False]), ["flag"])["flag"].ticktext) == ["False", "True"]


@pytest.mark.parametrize("mode", ["max", "min"])
def test_the_colour_scale_is_reversed_for_a_minimized_metric(mode):
    figure = space_charts.parallel(valued(rate=[0.1, 0.2]), ["rate"], "accuracy", mode, [])
    assert figure.data[0].line.reversescale == (mode == "min")


def test_markup_in_names_and_choices_is_escaped():
    found = space_charts.parallel(valued(**{NASTY: [NASTY, "x"]}), [NASTY], NASTY, "max", []).data[0].dimensions
    assert [dimension.label for dimension in found] == [SHOWN, SHOWN]
    assert SHOWN in found[0].ticktext
    figure = space_charts.slices(valued(**{NASTY: [NASTY, "x"]}), [NASTY], NASTY, [])
    assert figure.layout.annotations[0].text == SHOWN
    assert figure.layout.yaxis.title.text == SHOWN
    assert space_charts.epochs(valued(epochs=[1]), NASTY, default=0.5).layout.yaxis.title.text == f"validation {SHOWN}"


def test_markup_in_a_choice_is_escaped_in_its_panel():
    figure = space_charts.slices(valued(kind=[NASTY, "x"]), ["kind"], "accuracy", [])
    assert [x for data in figure.data for x in data.x] == [SHOWN, "x"]


def test_slices_have_a_panel_per_field_and_a_marker_per_trial_that_uses_it():
    frame = valued(rate=[0.1, None, 0.3], kind=["x", "y", "x"]).assign(state=["finished", "stopped", "stopped"])
    figure = space_charts.slices(frame, ["rate", "kind"], "accuracy", ["rate"])
    assert [(data.name, list(data.x), list(data.customdata)) for data in figure.data] == [
        ("stopped", [0.3], [2]),
        ("finished", [0.1], [0]),
        ("stopped", ["y", "x"], [1, 2]),
        ("finished", ["x"], [0]),
    ]
    assert [note.text for note in figure.layout.annotations] == ["rate", "kind"]
    assert figure.layout.xaxis.type == "log"
    assert figure.layout.xaxis2.type is None


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7, 17])
def test_slices_are_drawn_for_any_number_of_fields(count):
    fields = [f"f{number}" for number in range(count)]
    assert len(space_charts.slices(valued(**{name: [0.1, 0.2] for name in fields}), fields, "accuracy", []).data) == 2 * count


def test_a_space_without_searched_fields_can_be_drawn():
    assert len(space_charts.parallel(valued(rate=[0.1]), [], "accuracy", "max", []).data[0].dimensions) == 1
    assert len(space_charts.slices(valued(rate=[0.1]), [], "accuracy", []).data) == 0


def test_the_value_is_drawn_by_epochs_beside_the_default_recipe():
    frame = valued(epochs=[4, 8, 16]).assign(state=["finished", "stopped", "finished"])
    figure = space_charts.epochs(frame, "accuracy", default=0.7)
    assert list(figure.data[0].x) == [4, 16]
    assert list(figure.data[0].y) == [0.0, 0.2]
    assert figure.layout.shapes[0].y0 == 0.7
    assert len(space_charts.epochs(frame, "accuracy", default=None).layout.shapes) == 0


def test_the_strength_has_a_median_and_a_line_at_the_chosen_one():
    frame = pd.DataFrame({"augmentation_strength": [0.0, 0.5, 0.5, 0.5], "value": [0.1, 0.2, 0.9, 0.4], "trial": range(4)})
    figure = space_charts.strength(frame, "accuracy", 0.5)
    assert list(figure.data[1].x) == [0.0, 0.5]
    assert list(figure.data[1].y) == [0.1, 0.4]
    assert figure.layout.shapes[0].x0 == 0.5


def test_studies_with_no_and_one_trial_can_be_drawn():
    for record in (study(), study(trial(0))):
        frame, fields = space_analysis.values_by_field(record), trial_table.searched_fields(record)
        assert len(space_charts.parallel(frame, fields, "accuracy", "max", ["rate"]).data[0].dimensions) == 3
        assert [len(data.x) for data in space_charts.slices(frame, fields, "accuracy", ["rate"]).data] == [0, len(frame)] * 2
        assert len(space_charts.strength(pd.DataFrame({"augmentation_strength": [], "value": [], "trial": []}), "accuracy", 0.5).data) == 2
    assert len(space_charts.importance(pd.DataFrame({"parameter": [], "importance": []})).data) == 1


def test_a_real_space_is_drawn_completely(learnt):
    frame, fields = space_analysis.values_by_field(learnt), trial_table.searched_fields(learnt)
    logarithmic = [name for name in fields if space_analysis.is_logarithmic(learnt, name)]
    found = axes(frame, fields, logarithmic)
    assert set(found) == {*(name.replace("_", " ") for name in fields), "accuracy"}
    assert found["activation"].ticktext[0] == "not used"
    assert len(space_charts.slices(frame, fields, "accuracy", logarithmic).data) == 2 * len(fields)
