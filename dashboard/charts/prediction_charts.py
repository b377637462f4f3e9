"""What a trial's network makes of the validation images, as titled figures: one table for the screen and for the report."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import plotly.graph_objects as go

from dashboard.charts import trial_charts
from dashboard.data import trial_data

Pictures = Mapping[str, Any]
Drawn = tuple[str, go.Figure]


def _confusion(pictures: Pictures) -> Drawn:
    if len(pictures["classes"]) <= trial_data.MOST_CLASSES:
        return "Which class was taken for which", trial_charts.confusion(trial_data.confusion(pictures))
    return "The classes that are confused most often", trial_charts.confused(trial_data.confused(pictures))


def _precision(pictures: Pictures) -> Drawn:
    return "Average precision of each label", trial_charts.precision(trial_data.precision(pictures))


def _scatter(pictures: Pictures) -> Drawn:
    return "Predicted against true", trial_charts.scatter(trial_data.scatter(pictures), str(pictures["classes"][0]))


def _reliability(pictures: Pictures) -> Drawn:
    frame = trial_data.reliability(pictures)
    error = trial_data.calibration_error(frame)
    return f"How sure it is, and how right: off by {error:.1f} points on average", trial_charts.reliability(frame)


PICTURES: Mapping[str, Callable[[Pictures], Drawn]] = {
    "confusion": _confusion,
    "precision": _precision,
    "scatter": _scatter,
    "reliability": _reliability,
}
"""Name in an account's `pictures` → its title and figure, in the order in which they are shown."""


def drawn(pictures: Pictures) -> Iterator[tuple[str, str, go.Figure]]:
    """Yield the name, the title and the figure of each picture that there is."""
    for name, draw in PICTURES.items():
        if name in pictures:
            yield name, *draw(pictures)
