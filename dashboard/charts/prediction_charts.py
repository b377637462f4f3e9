"""Figures of a trial's predictions on the validation images with their titles, for the Trial screen and for the report."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import plotly.graph_objects as go

from dashboard.charts import trial_charts
from dashboard.data import trial_data

Pictures = Mapping[str, Any]
TitledFigure = tuple[str, go.Figure]


def _confusion(pictures: Pictures) -> TitledFigure:
    if len(pictures["classes"]) <= trial_data.MOST_CLASSES:
        return "Confusion matrix", trial_charts.confusion(trial_data.confusion(pictures))
    return "The most frequent confusions", trial_charts.confused(trial_data.confused(pictures))


def _precision(pictures: Pictures) -> TitledFigure:
    return "Average precision of each label", trial_charts.precision(trial_data.precision(pictures))


def _scatter(pictures: Pictures) -> TitledFigure:
    return "Predicted against true", trial_charts.scatter(trial_data.scatter(pictures), str(pictures["classes"][0]))


def _reliability(pictures: Pictures) -> TitledFigure:
    frame = trial_data.reliability(pictures)
    error = trial_data.calibration_error(frame)
    return f"Calibration: off by {error:.1f} points on average", trial_charts.reliability(frame)


FIGURES: Mapping[str, Callable[[Pictures], TitledFigure]] = {
    "confusion": _confusion,
    "precision": _precision,
    "scatter": _scatter,
    "reliability": _reliability,
}
"""Name of a diagnostic in the `pictures` of a trial's report → the function that returns its title and figure; in the screen's order."""


def prediction_figures(pictures: Pictures) -> Iterator[tuple[str, str, go.Figure]]:
    """Yield (name, title, figure) of each diagnostic in `pictures`, that of `TrialRecord.report`. The name is a key of `FIGURES`."""
    for name, draw in FIGURES.items():
        if name in pictures:
            yield name, *draw(pictures)
