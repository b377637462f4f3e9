import pandas as pd
import pytest

from dashboard.charts import trial_charts
from dashboard.charts.prediction_charts import FIGURES, prediction_figures
from dashboard.charts.theme import STYLES
from dashboard.data import trial_data
from tests.dashboard.played_search import pictures
from trainables.training.diagnostics import DIAGNOSTICS

NASTY = "<script>alert(1)</script> & 🌱"
SHOWN = "&lt;script&gt;alert(1)&lt;/script&gt; &amp; 🌱"


def many_metrics(count):
    return pd.DataFrame(
        [(epoch, f"m_{number}", number) for number in range(count) for epoch in (1, 2)], columns=["epoch", "metric", "value"]
    )


def test_each_metric_has_a_panel_with_its_name(record):
    figure = trial_charts.metrics(trial_data.metrics(record.trials[1]))
    assert [note.text for note in figure.layout.annotations] == ["accuracy", "train loss", "loss"]
    assert list(figure.data[1].y) == [1.5, 1.4, 1.3, 1.2]
    assert list(figure.data[0].x) == [1, 2, 3, 4]
    assert figure.data[0].line.color == STYLES["best"].color


@pytest.mark.parametrize("count", [1, 3, 4, 13, 30])
def test_panels_are_drawn_for_any_number_of_metrics(count):
    figure = trial_charts.metrics(many_metrics(count))
    assert len(figure.data) == count
    assert figure.layout.height == trial_charts.PANEL_HEIGHT * -(-count // trial_charts.COLUMNS)


def test_markup_in_a_metric_is_escaped():
    figure = trial_charts.metrics(pd.DataFrame({"epoch": [1], "metric": [NASTY], "value": [0.5]}))
    assert figure.layout.annotations[0].text == SHOWN
    assert SHOWN in figure.data[0].hovertemplate


def test_a_confusion_matrix_shows_shares_as_shades_and_images_as_numbers():
    (heat,) = trial_charts.confusion(trial_data.confusion(pictures(4, 0.8))).data
    assert heat.z.tolist() == [[0.9, 0.1], [0.3, 0.7]]
    assert heat.customdata.tolist() == [[90, 10], [30, 70]]
    assert heat.text.tolist() == [[90, 10], [30, 70]]
    assert list(heat.x) == list(heat.y) == ["a", "b"]


def test_a_class_without_images_has_share_zero():
    (heat,) = trial_charts.confusion(trial_data.confusion({"classes": ["a", "b"], "confusion": [[0, 0, 5]]})).data
    assert heat.z.tolist() == [[1, 0], [0, 0]]
    assert heat.text.tolist() == [[5, ""], ["", ""]]


def test_many_classes_have_no_numbers_in_their_cells():
    classes = [str(number) for number in range(trial_charts.MOST_NUMBERED_CLASSES + 1)]
    (heat,) = trial_charts.confusion(trial_data.confusion({"classes": classes, "confusion": [[0, 1, 5]]})).data
    assert heat.text is None
    assert heat.customdata[0][1] == 5


def test_a_single_class_can_be_drawn():
    (heat,) = trial_charts.confusion(trial_data.confusion({"classes": ["a"], "confusion": [[0, 0, 3]]})).data
    assert heat.z.tolist() == [[1]]


def test_markup_in_a_class_is_escaped():
    reported = pictures(4, 0.8, (NASTY, "b"))
    assert list(trial_charts.confusion(trial_data.confusion(reported)).data[0].x) == [SHOWN, "b"]
    assert list(trial_charts.confused(trial_data.confused(reported)).data[0].y) == [f"b → {SHOWN}", f"{SHOWN} → b"]
    precise = {"classes": [NASTY], "precision": [[0, 0.5, 3]]}
    assert list(trial_charts.precision(trial_data.precision(precise)).data[0].y) == [SHOWN]
    scattered = trial_charts.scatter(trial_data.scatter({"scatter": [[1.0, 2.0]]}), NASTY)
    assert scattered.layout.xaxis.title.text == f"true {SHOWN}"
    assert scattered.layout.yaxis.title.text == f"predicted {SHOWN}"


def test_confusions_are_bars_with_the_most_frequent_on_top():
    figure = trial_charts.confused(trial_data.confused(pictures(4, 0.8)))
    assert list(figure.data[0].x) == [30, 10]
    assert list(figure.data[0].y) == ["b → a", "a → b"]
    assert figure.layout.yaxis.autorange == "reversed"


def test_reliability_is_drawn_over_the_diagonal():
    diagonal, line = trial_charts.reliability(trial_data.reliability(pictures(4, 0.8))).data
    assert list(diagonal.x) == list(diagonal.y) == [0, 100]
    assert list(line.x) == [60, 95]
    assert list(line.y) == [50, 90]
    assert list(line.customdata) == [50, 150]
    assert line.marker.size[0] < line.marker.size[1]


def test_precision_is_a_bar_per_label():
    figure = trial_charts.precision(trial_data.precision({"classes": ["cat", "dog"], "precision": [[0, 0.9, 5], [1, 0.2, 7]]}))
    assert list(figure.data[0].y) == ["dog", "cat"]
    assert list(figure.data[0].x) == [0.2, 0.9]


def test_the_line_of_a_scatter_spans_the_true_values():
    line, images = trial_charts.scatter(trial_data.scatter({"scatter": [[3.0, 1.0], [-1.0, 9.0]]}), "age").data
    assert list(line.x) == list(line.y) == [-1, 3]
    assert list(images.y) == [1, 9]


@pytest.mark.parametrize(
    "draw",
    [
        lambda: trial_charts.confused(trial_data.confused({"classes": ["a"], "confusion": []})),
        lambda: trial_charts.reliability(trial_data.reliability({"reliability": []})),
        lambda: trial_charts.precision(trial_data.precision({"classes": [], "precision": []})),
        lambda: trial_charts.scatter(trial_data.scatter({"scatter": []}), "age"),
        lambda: trial_charts.confusion(trial_data.confusion({"classes": [], "confusion": []})),
        lambda: trial_charts.metrics(many_metrics(0)),
    ],
    ids=["confused", "reliability", "precision", "scatter", "confusion", "metrics"],
)
def test_empty_frames_can_be_drawn(draw):
    assert all(data.x is None or data.name or len(data.x) == 0 for data in draw().data)


@pytest.mark.parametrize(
    ("reported", "names", "title"),
    [
        (pictures(4, 0.8), ["confusion", "reliability"], "Confusion matrix"),
        (pictures(4, 0.8, tuple(map(str, range(31)))), ["confusion", "reliability"], "The most frequent confusions"),
        ({"classes": ["age"], "scatter": [[1.0, 2.0]]}, ["scatter"], "Predicted against true"),
        (
            {"classes": ["cat"], "precision": [[0, 0.5, 3]], "reliability": [[0.5, 0.4, 3]]},
            ["precision", "reliability"],
            "Average precision of each label",
        ),
    ],
    ids=["multiclass", "many classes", "regression", "multilabel"],
)
def test_each_task_has_its_figures_with_titles(reported, names, title):
    shown = list(prediction_figures(reported))
    assert [name for name, _, _ in shown] == names
    assert shown[0][1] == title
    assert all(len(figure.data) for _, _, figure in shown)


def test_the_title_of_the_calibration_has_its_error():
    (title,) = [title for name, title, _ in prediction_figures(pictures(4, 0.8)) if name == "reliability"]
    assert title.endswith("off by 6.2 points on average")


def test_every_reported_diagnostic_has_a_figure():
    assert {name for task in DIAGNOSTICS.values() for name in task} == set(FIGURES)
