"""Study: how one search is going, what it found, and why its trials ended; live while it runs."""

import shlex
from contextlib import suppress

import streamlit as st

from dashboard import actions, auth, layout, records_cache, zoomable_chart
from dashboard.charts import study_charts
from dashboard.data import study_data, trial_table
from search.display.snapshot import snapshot_of
from search.display.summary import on_test_images
from search.formatting import amount, duration, number
from search.record.records import StudyRecord
from trainables.errors import InjertoError

BEST = (
    "The best finished trial; where none has finished, the best of the stopped ones. The interval covers the draw of the validation "
    "images, 19 times in 20. It does not cover that the best of many was chosen: the test images are for that."
)
FAILURES = {"message": st.column_config.TextColumn(width="large"), "where": st.column_config.TextColumn(width="medium")}


def draw(record: StudyRecord) -> None:
    """Show the study, each part by itself: what cannot be shown does not hide the rest."""
    for part in (_about, _headline, _budgets, _charts, _best, _failures, _notes, _actions):
        with records_cache.kindly():
            part(record)


def _about(record: StudyRecord) -> None:
    st.caption(records_cache.plain(study_data.in_a_line(record)))
    if words := on_test_images(record):
        st.markdown(f"**{records_cache.plain(words)}**")
    if record.state == "interrupted":
        st.caption("Go on with it in a terminal:")
        st.code(f"injerto resume {shlex.quote(record.name)}", language="bash")


def _headline(record: StudyRecord) -> None:
    best, gain = record.best, study_data.gain(record)
    hourly, images = study_data.throughput(record)
    left = snapshot_of(record).left if record.state == "running" else None
    tiles = (
        layout.Tile(f"best validation {record.metric}", layout.number(best.value if best else None), _interval(record), BEST),
        layout.Tile("gain over the default recipe", layout.number(gain, sign=True), None, "Trial 0 is the default recipe."),
        layout.Tile("trials", f"{layout.ended(record.counts):,} of {study_data.planned(record):,}"),
        layout.Tile("time", duration(record.seconds), None if left is None else f"about {duration(left)} left"),
        layout.Tile("trials an hour", number(hourly), f"{images:,.0f} images/s now" if images else None),
    )
    layout.tiles(tiles)
    epochs = sum(trial.epochs_done for trial in record.trials)
    st.markdown(f"{layout.trial_badges(record.counts)} {epochs:,} epochs in all")


def _interval(record: StudyRecord) -> str | None:
    with suppress(InjertoError):  # the trial's own screen says what of it is gone
        found = study_data.interval(record)
        return None if found is None else f"{found[0]:.3g} to {found[1]:.3g}"
    return None


def _budgets(record: StudyRecord) -> None:
    gauges = snapshot_of(record).gauges
    for gauge, place in zip(gauges, st.columns(len(gauges)) if gauges else (), strict=True):
        place.progress(gauge.share, f"{gauge.name}: {amount(gauge.used, gauge.limit, gauge.unit)}")


def _charts(record: StudyRecord) -> None:
    left, right = st.columns(2)
    with left:
        st.subheader("Best so far", anchor=False, help=zoomable_chart.HELP)
        points, default = study_data.best_so_far(record), record.default_recipe
        against = st.segmented_control(
            "against", list(study_charts.AXES), default="time", key="against", required=True, bind="query-params"
        )
        if points.empty:
            st.caption("No trial has ended yet.")
        else:
            known = default.value if default and default.state == "finished" else None
            figure = study_charts.best_so_far(points, record.metric, default=known, against=against or "time")
            zoomable_chart.chart(figure, f"best-{record.name}-{against}", "Best value so far")
    with right:
        st.subheader("Learning curves", anchor=False, help=zoomable_chart.HELP)
        chosen = study_data.drawn(record)
        lines = study_data.curves(record, chosen)
        reported = sum(1 for trial in record.trials if trial.intermediate)
        few = f"{len(chosen)} of {reported:,} trials: the best and the latest." if len(chosen) < reported else "All trials."
        st.caption(f"{few} Weak ones are stopped at the rungs.")
        if lines.empty:
            st.caption("No trial has reported an epoch yet.")
        else:
            zoomable_chart.chart(
                study_charts.curves(lines, record.metric, study_data.rungs(record)), f"curves-{record.name}", "Learning curves of trials"
            )


def _best(record: StudyRecord) -> None:
    if record.best is None:
        return
    left, right = st.columns(2)
    with left, records_cache.kindly():
        own = ", the default recipe itself" if record.best.is_default_recipe else ""
        st.subheader(f"The best configuration: trial {record.best.number}{own}", anchor=False)
        st.markdown("\n".join(f"- {records_cache.plain(sentence)}" for sentence in study_data.configuration(record.best)))
        layout.link("trial", f"Look at trial {record.best.number} →", record.name, trial=str(record.best.number))
    with right, records_cache.kindly():
        st.subheader("Test scores", anchor=False)
        _test(record)


def _test(record: StudyRecord) -> None:
    scores = study_data.scores(record)
    if scores.empty:
        st.caption("Test scores come when the search has finished: the test images are opened once, and only then.")
        return
    images = record.dataset.get("images", {}).get("test", 0)
    st.markdown(f"On {images:,} test images that no trial has seen, opened {_times(len(record.openings))}:")
    st.dataframe(scores.style.format(precision=4), hide_index=True, key=f"scores-{record.name}", alt="Test scores")


def _times(openings: int) -> str:
    return "once" if openings < 2 else f"{openings} times, as the search went on after that"


def _failures(record: StudyRecord) -> None:
    if not record.counts["failed"]:
        return
    st.subheader("Failures", anchor=False)
    st.dataframe(
        trial_table.failures(record), hide_index=True, column_config=FAILURES, key=f"failures-{record.name}", alt="Failures by kind"
    )


def _notes(record: StudyRecord) -> None:
    actions.notes(record, None)


def _actions(record: StudyRecord) -> None:
    if auth.may_act():
        actions.of_study(record)


if __name__ == "__main__":
    layout.of_study(layout.SCREENS["study"], draw)
