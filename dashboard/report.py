"""Writes a study as one self-contained HTML file with the main figures of the screens, for a mail or a pull request."""

import html
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd
import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from dashboard.charts import space_charts, study_charts
from dashboard.charts.prediction_charts import prediction_figures
from dashboard.data import best_recipe, space_analysis, study_data, trial_table
from search.display.summary import describe_test_result
from search.formatting import duration
from search.record.records import StudyRecord
from trainables.errors import ConfigError, InjertoError, ResourceError

LEADERS = 10
CONTENT_SECURITY_POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"
STYLE = """
body {font: 16px/1.5 system-ui, sans-serif; color: #1b2a23; max-width: 1100px; margin: 2rem auto; padding: 0 1rem}
h1 {margin-bottom: 0} h2 {margin-top: 2.2rem; border-bottom: 1px solid #d9e2dc} p.quiet {color: #5b6b63}
dl {display: flex; flex-wrap: wrap; gap: 1rem 2.5rem} dt {color: #5b6b63; font-size: .85rem} dd {margin: 0; font-size: 1.5rem}
table {border-collapse: collapse; display: block; overflow-x: auto}
td, th {padding: .25rem .7rem; border-bottom: 1px solid #e5ebe7; text-align: left}
pre {background: #f2f6f3; padding: 1rem; overflow-x: auto} img {border-radius: 4px}
figure {display: inline-block; margin: .4rem; width: 132px; vertical-align: top; font-size: .8rem}
"""


def write_report(record: StudyRecord, to: Path, *, force: bool = False) -> None:
    """Write a study's report to the HTML file `to`; with `force` overwrite an existing file.

    Raises ``ConfigError`` if the file exists and `force` is False, and ``ResourceError`` if it cannot be written.
    """
    if to.exists() and not force:
        raise ConfigError(f"{to} exists already; name another file with --to, or overwrite it with --force")
    try:
        to.write_text(report_html(record), encoding="utf-8", errors="replace")
    except OSError as error:
        raise ResourceError(f"cannot write {to}: {error.strerror}; name another file with --to") from None


def report_html(record: StudyRecord) -> str:
    """Return a study's report as a whole HTML page, which contains Plotly's script (megabytes) and the images, and loads nothing.

    Every text of the record is escaped.
    """
    name = html.escape(record.name)
    body = "\n".join(_sections(record))
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{CONTENT_SECURITY_POLICY}"><title>{name}</title><style>{STYLE}</style>'
        f"<script>{get_plotlyjs()}</script></head><body>\n{body}\n</body></html>\n"
    )


def _sections(record: StudyRecord) -> Iterator[str]:
    yield f"<h1>{html.escape(record.name)}</h1><p class=quiet>{html.escape(_state_line(record))}</p>"
    yield _headline(record)
    if words := describe_test_result(record):
        yield f"<p><b>{html.escape(words)}</b></p>"
    if record.notes:
        yield _section("Notes", "".join(f"<p>{_subject(note)}: {html.escape(str(note['text']))}</p>" for note in record.notes))
    points, default = study_data.best_so_far(record), record.default_recipe
    if len(points):
        known = default.value if default is not None and default.state == "finished" else None
        yield _section("Best so far", _chart_html(study_charts.best_so_far(points, record.metric, default=known)))
    lines = study_data.learning_curves(record, study_data.trials_to_draw(record))
    if len(lines):
        yield _section("Learning curves", _chart_html(study_charts.curves(lines, record.metric, study_data.rung_percentages(record))))
    scores = study_data.test_scores(record)
    if len(scores):
        yield _section("On the test images", _table(scores))
    if record.ranking:
        yield _section("Leaders", _table(_leaders(record)))
    yield from _best_trial(record)
    with suppress(InjertoError):
        frame = space_analysis.importance(record, "PED-ANOVA")
        words = space_analysis.describe_importance(frame, "PED-ANOVA", len(space_analysis.analyzed_trials(record)))
        yield _section("Importance of parameters", _chart_html(space_charts.importance(frame)) + f"<p>{html.escape(words)}</p>")
    if record.counts["failed"]:
        yield _section("Failures", _table(trial_table.failures(record)))
    yield f"<p class=quiet>{html.escape(', '.join(f'{name} {version}' for name, version in record.versions.items()))}</p>"


def _state_line(record: StudyRecord) -> str:
    why = f": {record.why}" if record.why else ""
    return f"{record.state}{why} · {study_data.describe_dataset(record)} · written {datetime.now():%Y-%m-%d %H:%M}"


def _subject(note: Mapping[str, Any]) -> str:
    """Return what a note is about, as HTML: "the study", or "trial" and its number."""
    return "the study" if note.get("trial") is None else f"trial {html.escape(str(note['trial']))}"


def _headline(record: StudyRecord) -> str:
    interval, gain = None, study_data.gain(record)
    with suppress(InjertoError):
        interval = study_data.interval(record)
    best = "–" if record.best is None or record.best.value is None else f"{record.best.value:.4g}"
    facts = {
        f"best validation {record.metric}": best + (f" ({interval[0]:.3g} to {interval[1]:.3g})" if interval else ""),
        "gain over the default recipe": "–" if gain is None else f"{gain:+.4g}",
        "trials": ", ".join(f"{count:,} {state}" for state, count in record.counts.items() if count) or "none",
        "time": duration(record.seconds),
    }
    cells = "".join(f"<div><dt>{html.escape(name)}</dt><dd>{html.escape(value)}</dd></div>" for name, value in facts.items())
    return f"<dl>{cells}</dl>"


def _leaders(record: StudyRecord) -> pd.DataFrame:
    frame = trial_table.trials_table(record).set_index("trial", drop=False)
    columns = list(dict.fromkeys(["trial", "value", "epochs", *trial_table.searched_fields(record)]))
    return frame.loc[[trial.number for trial in record.ranking[:LEADERS]], columns]


def _best_trial(record: StudyRecord) -> Iterator[str]:
    best = record.best
    if best is None:
        return
    with suppress(InjertoError):
        words = "".join(f"<li>{html.escape(sentence)}</li>" for sentence in study_data.configuration_sentences(best))
        yield _section(
            f"The best configuration: trial {best.number}", f"<ul>{words}</ul><pre>{html.escape(best_recipe.recipe_yaml(record))}</pre>"
        )
    with suppress(InjertoError):
        if pictures := best.report.get("pictures"):
            yield _section("Predictions on the validation images", _predictions(pictures))


def _predictions(pictures: Mapping[str, Any]) -> str:
    figures = "".join(f"<h3>{html.escape(title)}</h3>{_chart_html(figure)}" for _, title, figure in prediction_figures(pictures))
    worst = "".join(
        f'<figure><img width=128 alt="" src="data:image/jpeg;base64,{html.escape(image["jpeg"])}"><figcaption>predicted '
        f"<b>{html.escape(image['prediction'])}</b>, true <b>{html.escape(image['truth'])}</b></figcaption></figure>"
        for image in pictures["worst"]
    )
    return figures + (f"<h3>The worst predictions</h3>{worst}" if worst else "")


def _section(title: str, content: str) -> str:
    return f"<section><h2>{html.escape(title)}</h2>{content}</section>"


def _chart_html(figure: go.Figure) -> str:
    figure.update_layout(template="plotly_white")
    return str(figure.to_html(full_html=False, include_plotlyjs=False, config={"displaylogo": False, "responsive": True}))


def _table(frame: pd.DataFrame) -> str:
    return str(frame.to_html(index=False, border=0, na_rep="–", float_format=lambda value: f"{value:.4g}"))
