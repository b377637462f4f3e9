"""Study: how one search is going, what it found, and why its trials ended; live while it runs."""

import shlex
from contextlib import suppress

import streamlit as st

from dashboard import access, actions, charts, frames, reading, screen, tables, zoom
from search.brief import amount, duration, number
from search.records import StudyRecord
from search.standing import standing_of
from search.tell import on_test_images
from trainables.errors import InjertoError

BEST = (
    "The best finished trial; where none has finished, the best of the stopped ones. The interval covers the draw of the validation "
    "images, 19 times in 20. It does not cover that the best of many was chosen: the test images are for that."
)
FAILURES = {"message": st.column_config.TextColumn(width="large"), "where": st.column_config.TextColumn(width="medium")}


def draw(record: StudyRecord) -> None:
    """Show the study, each part by itself: what cannot be shown does not hide the rest."""
    for part in (_about, _headline, _budgets, _charts, _best, _failures, _notes, _actions):
        with reading.kindly():
            part(record)


def _about(record: StudyRecord) -> None:
    st.caption(reading.plain(frames.in_a_line(record)))
    if words := on_test_images(record):
        st.markdown(f"**{reading.plain(words)}**")
    if record.state == "interrupted":
        st.caption("Go on with it in a terminal:")
        st.code(f"injerto resume {shlex.quote(record.name)}", language="bash")


def _headline(record: StudyRecord) -> None:
    best, gain = record.best, frames.gain(record)
    hourly, images = frames.throughput(record)
    left = standing_of(record).left if record.state == "running" else None
    tiles = (
        screen.Tile(f"best validation {record.metric}", screen.number(best.value if best else None), _interval(record), BEST),
        screen.Tile("gain over the default recipe", screen.number(gain, sign=True), None, "Trial 0 is the default recipe."),
        screen.Tile("trials", f"{screen.ended(record.counts):,} of {frames.planned(record):,}"),
        screen.Tile("time", duration(record.seconds), None if left is None else f"about {duration(left)} left"),
        screen.Tile("trials an hour", number(hourly), f"{images:,.0f} images/s now" if images else None),
    )
    screen.tiles(tiles)
    epochs = sum(trial.epochs_done for trial in record.trials)
    st.markdown(f"{screen.trial_badges(record.counts)} {epochs:,} epochs in all")


def _interval(record: StudyRecord) -> str | None:
    with suppress(InjertoError):  # the trial's own screen says what of it is gone
        found = frames.interval(record)
        return None if found is None else f"{found[0]:.3g} to {found[1]:.3g}"
    return None


def _budgets(record: StudyRecord) -> None:
    gauges = standing_of(record).gauges
    for gauge, place in zip(gauges, st.columns(len(gauges)) if gauges else (), strict=True):
        place.progress(gauge.share, f"{gauge.name}: {amount(gauge.used, gauge.limit, gauge.unit)}")


def _charts(record: StudyRecord) -> None:
    left, right = st.columns(2)
    with left:
        st.subheader("Best so far", anchor=False, help=zoom.HELP)
        points, default = frames.best_so_far(record), record.default_recipe
        against = st.segmented_control("against", list(charts.AXES), default="time", key="against", required=True, bind="query-params")
        if points.empty:
            st.caption("No trial has ended yet.")
        else:
            known = default.value if default and default.state == "finished" else None
            figure = charts.best_so_far(points, record.metric, default=known, against=against or "time")
            zoom.chart(figure, f"best-{record.name}-{against}", "Best value so far")
    with right:
        st.subheader("Learning curves", anchor=False, help=zoom.HELP)
        chosen = frames.drawn(record)
        lines = frames.curves(record, chosen)
        reported = sum(1 for trial in record.trials if trial.intermediate)
        few = f"{len(chosen)} of {reported:,} trials: the best and the latest." if len(chosen) < reported else "All trials."
        st.caption(f"{few} Weak ones are stopped at the rungs.")
        if lines.empty:
            st.caption("No trial has reported an epoch yet.")
        else:
            zoom.chart(charts.curves(lines, record.metric, frames.rungs(record)), f"curves-{record.name}", "Learning curves of trials")


def _best(record: StudyRecord) -> None:
    if record.best is None:
        return
    left, right = st.columns(2)
    with left, reading.kindly():
        own = ", the default recipe itself" if record.best.is_default_recipe else ""
        st.subheader(f"The best configuration: trial {record.best.number}{own}", anchor=False)
        st.markdown("\n".join(f"- {reading.plain(sentence)}" for sentence in frames.configuration(record.best)))
        screen.link("trial", f"Look at trial {record.best.number} →", record.name, trial=str(record.best.number))
    with right, reading.kindly():
        st.subheader("Test scores", anchor=False)
        _test(record)


def _test(record: StudyRecord) -> None:
    scores = frames.scores(record)
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
    st.dataframe(tables.failures(record), hide_index=True, column_config=FAILURES, key=f"failures-{record.name}", alt="Failures by kind")


def _notes(record: StudyRecord) -> None:
    actions.notes(record, None)


def _actions(record: StudyRecord) -> None:
    if access.may_act():
        actions.of_study(record)


if __name__ == "__main__":
    screen.of_study(screen.SCREENS["study"], draw)
