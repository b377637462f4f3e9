"""Study: the progress, the results and the failures of one search, live while it runs."""

import shlex
from contextlib import suppress

import streamlit as st

from dashboard import actions, auth, layout, zoomable_chart
from dashboard.charts import study_charts
from dashboard.data import study_data, trial_table
from dashboard.markdown_text import escape
from dashboard.record_errors import show_errors
from search.display.snapshot import snapshot_of
from search.display.summary import describe_test_result
from search.formatting import amount, duration, number
from search.record.records import StudyRecord
from trainables.errors import InjertoError

BEST_HELP = (
    "The best finished trial, or the best stopped one if none has finished. The 95 % interval covers the random choice of the validation "
    "images. It does not cover the optimism of choosing the best of many trials; the test scores do."
)
FAILURE_COLUMNS = {"message": st.column_config.TextColumn(width="large"), "where": st.column_config.TextColumn(width="medium")}


def draw(record: StudyRecord) -> None:
    """Show all parts of the screen. A part that raises an error is replaced by a warning, and the others are shown."""
    for part in (_about, _headline, _budgets, _charts, _best, _failures, _notes, _actions):
        with show_errors():
            part(record)


def _about(record: StudyRecord) -> None:
    st.caption(escape(study_data.describe_dataset(record)))
    if words := describe_test_result(record):
        st.markdown(f"**{escape(words)}**")
    if record.state == "interrupted":
        st.caption("Resume it in a terminal:")
        st.code(f"injerto resume {shlex.quote(record.name)}", language="bash")


def _headline(record: StudyRecord) -> None:
    best, gain = record.best, study_data.gain(record)
    hourly, images = study_data.throughput(record)
    left = snapshot_of(record).seconds_left if record.state == "running" else None
    tiles = (
        layout.Tile(f"best validation {record.metric}", layout.four_digits(best.value if best else None), _interval(record), BEST_HELP),
        layout.Tile("gain over the default recipe", layout.four_digits(gain, sign=True), None, "Trial 0 is the default recipe."),
        layout.Tile("trials", f"{study_data.ended_trials(record.counts):,} of {study_data.planned_trials(record):,}"),
        layout.Tile("time", duration(record.seconds), None if left is None else f"about {duration(left)} left"),
        layout.Tile("trials an hour", number(hourly), f"{images:,.0f} images/s now" if images else None),
    )
    layout.show_tiles(tiles)
    epochs = sum(trial.epochs_done for trial in record.trials)
    st.markdown(f"{layout.trial_badges(record.counts)} {epochs:,} epochs in total")


def _interval(record: StudyRecord) -> str | None:
    with suppress(InjertoError):  # the Trial screen shows what is missing
        interval = study_data.interval(record)
        return None if interval is None else f"{interval[0]:.3g} to {interval[1]:.3g}"
    return None


def _budgets(record: StudyRecord) -> None:
    gauges = snapshot_of(record).gauges
    for gauge, place in zip(gauges, st.columns(len(gauges)) if gauges else (), strict=True):
        place.progress(gauge.share, f"{gauge.name}: {amount(gauge.used, gauge.limit, gauge.unit)}")


def _charts(record: StudyRecord) -> None:
    left, right = st.columns(2)
    with left:
        st.subheader("Best so far", anchor=False, help=zoomable_chart.ZOOM_HELP)
        points, default = study_data.best_so_far(record), record.default_recipe
        against = st.segmented_control(
            "against", list(study_charts.AXES), default="time", key="against", required=True, bind="query-params"
        )
        if points.empty:
            st.caption("No trial has ended yet.")
        else:
            known = default.value if default and default.state == "finished" else None
            figure = study_charts.best_so_far(points, record.metric, default=known, against=against or "time")
            zoomable_chart.show_chart(figure, f"best-{record.name}-{against}", "Best value so far")
    with right:
        st.subheader("Learning curves", anchor=False, help=zoomable_chart.ZOOM_HELP)
        chosen = study_data.trials_to_draw(record)
        lines = study_data.learning_curves(record, chosen)
        reported = sum(1 for trial in record.trials if trial.intermediate)
        few = f"{len(chosen)} of {reported:,} trials: the best and the latest." if len(chosen) < reported else "All trials."
        st.caption(f"{few} Weak trials are stopped at the rungs.")
        if lines.empty:
            st.caption("No trial has reported an epoch yet.")
        else:
            zoomable_chart.show_chart(
                study_charts.curves(lines, record.metric, study_data.rung_percentages(record)),
                f"curves-{record.name}",
                "Learning curves of trials",
            )


def _best(record: StudyRecord) -> None:
    if record.best is None:
        return
    left, right = st.columns(2)
    with left, show_errors():
        own = ", the default recipe" if record.best.is_default_recipe else ""
        st.subheader(f"The best configuration: trial {record.best.number}{own}", anchor=False)
        st.markdown("\n".join(f"- {escape(sentence)}" for sentence in study_data.configuration_sentences(record.best)))
        layout.screen_link("trial", f"See trial {record.best.number} →", record.name, trial=str(record.best.number))
    with right, show_errors():
        st.subheader("Test scores", anchor=False)
        _test(record)


def _test(record: StudyRecord) -> None:
    scores = study_data.test_scores(record)
    if scores.empty:
        st.caption("The test split is evaluated once, when the search finishes.")
        return
    images = record.dataset.get("images", {}).get("test", 0)
    st.markdown(f"On {images:,} test images that no trial has seen, evaluated {_times(len(record.test_evaluations))}:")
    st.dataframe(scores.style.format(precision=4), hide_index=True, key=f"scores-{record.name}", alt="Test scores")


def _times(evaluations: int) -> str:
    return "once" if evaluations < 2 else f"{evaluations} times, as the search was continued after the first time"


def _failures(record: StudyRecord) -> None:
    if not record.counts["failed"]:
        return
    st.subheader("Failures", anchor=False)
    st.dataframe(
        trial_table.failures(record), hide_index=True, column_config=FAILURE_COLUMNS, key=f"failures-{record.name}", alt="Failures by kind"
    )


def _notes(record: StudyRecord) -> None:
    actions.show_notes(record, None)


def _actions(record: StudyRecord) -> None:
    if auth.may_act():
        actions.study_actions(record)


if __name__ == "__main__":
    layout.show_study_screen(layout.SCREENS["study"], draw)
