"""What a trial's network makes of the validation images, as titled figures: one table for the screen and for the report."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import plotly.graph_objects as go

from dashboard import drawings, portrait

Pictures = Mapping[str, Any]
Drawn = tuple[str, go.Figure]


def _confusion(pictures: Pictures) -> Drawn:
    if len(pictures["classes"]) <= portrait.MOST_CLASSES:
        return "Which class was taken for which", drawings.confusion(portrait.confusion(pictures))
    return "The classes that are confused most often", drawings.confused(portrait.confused(pictures))


def _precision(pictures: Pictures) -> Drawn:
    return "Average precision of each label", drawings.precision(portrait.precision(pictures))


def _scatter(pictures: Pictures) -> Drawn:
    return "Predicted against true", drawings.scatter(portrait.scatter(pictures), str(pictures["classes"][0]))


def _reliability(pictures: Pictures) -> Drawn:
    frame = portrait.reliability(pictures)
    error = portrait.calibration_error(frame)
    return f"How sure it is, and how right: off by {error:.1f} points on average", drawings.reliability(frame)


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
