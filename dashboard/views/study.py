"""Study: how one search is going, what it found, and why its trials ended; live while it runs."""

import shlex

import streamlit as st

from dashboard import charts, frames, reading, zoom
from dashboard.views.studies import ended, state_badge, trial_badges
from search.records import StudyRecord

COLUMNS = {
    "trial": st.column_config.NumberColumn("trial", pinned=True, width=60),
    "value": st.column_config.NumberColumn("value", format="%.4f", help="Validation metric of the last epoch."),
    "seconds": st.column_config.NumberColumn("time", format="%.0f s"),
    "learning_rate": st.column_config.NumberColumn("learning rate", format="%.2g"),
    "unfrozen_stages": st.column_config.NumberColumn("unfrozen", help="Stages of the backbone that are trained."),
    "head_layers": st.column_config.NumberColumn("head layers"),
    "dropout": st.column_config.NumberColumn("dropout", format="%.2g"),
    "batch_size": st.column_config.NumberColumn("batch"),
    "augmentation_strength": st.column_config.NumberColumn("augmentation", format="%.2g"),
    "why it ended": st.column_config.TextColumn(width="large"),
}


def show() -> None:
    """Show the study that the address names, the latest by default."""
    with reading.kindly():
        record = reading.study(st.query_params.get("study"))
        st.query_params["study"] = record.name
        live = record.state == "running"
        st.fragment(_panel, run_every=reading.LIVE if live else None)(record.name, live)
        return
    st.page_link("views/studies.py", label="All studies")


def _panel(name: str, live: bool) -> None:
    with reading.kindly():
        record = reading.study(name)
        if live and record.state != "running":
            st.rerun()
        for section in (_title, _headline, _charts, _best, _trials):
            with reading.kindly():
                section(record)


def _title(record: StudyRecord) -> None:
    st.title(reading.plain(record.name), anchor=False)
    why = f" {reading.plain(record.why)} ·" if record.why else ""
    st.markdown(f"{state_badge(record.state)}{why} {reading.plain(frames.in_a_line(record))}")
    if record.state == "interrupted":
        st.caption("Go on with it in a terminal:")
        st.code(f"injerto resume {shlex.quote(record.name)}", language="bash")


def _headline(record: StudyRecord) -> None:
    best, gain = record.best, frames.gain(record)
    value, lead, trials, time = st.columns(4)
    value.metric(
        f"best validation {reading.plain(record.metric)}",
        "–" if best is None else f"{best.value:.4g}",
        help="The best finished trial; where none has finished, the best of the stopped ones.",
        border=True,
    )
    lead.metric("gain over the default recipe", "–" if gain is None else f"{gain:+.4g}", help="Trial 0 is the default recipe.", border=True)
    trials.metric("trials", f"{ended(record.counts)} of {frames.planned(record)}", border=True)
    time.metric("time", frames.duration(record.seconds), border=True)
    epochs = sum(trial.epochs_done for trial in record.trials)
    st.markdown(f"{trial_badges(record.counts)} {epochs:,} epochs in all")


def _charts(record: StudyRecord) -> None:
    left, right = st.columns(2)
    with left:
        st.subheader("Best so far", anchor=False, help=zoom.HELP)
        points, default = frames.best_so_far(record), record.default_recipe
        if points.empty:
            st.caption("No trial has ended yet.")
        else:
            known = default.value if default and default.state == "finished" else None
            figure = charts.best_so_far(points, record.metric, default=known)
            zoom.chart(figure, f"best-{record.name}", "Best value so far against time")
    with right:
        st.subheader("Learning curves", anchor=False, help=zoom.HELP)
        lines = frames.curves(record)
        if lines.empty:
            st.caption("No trial has reported an epoch yet.")
        else:
            figure = charts.curves(lines, record.metric)
            zoom.chart(figure, f"curves-{record.name}", "Learning curves of all trials")


def _best(record: StudyRecord) -> None:
    if record.best is None:
        return
    left, right = st.columns(2)
    with left, reading.kindly():
        own = ", the default recipe itself" if record.best.is_default_recipe else ""
        st.subheader(f"The best configuration: trial {record.best.number}{own}", anchor=False)
        st.markdown("\n".join(f"- {reading.plain(sentence)}" for sentence in frames.configuration(record.best)))
        _test(record)
    with right, reading.kindly():
        st.subheader("Its loss by epoch", anchor=False, help=zoom.HELP)
        figure = charts.losses(frames.losses(record.best))
        zoom.chart(figure, f"losses-{record.name}-{record.best.number}", "Training and validation loss of the best trial")


def _test(record: StudyRecord) -> None:
    scores = frames.scores(record)
    if scores.empty:
        st.caption("Test scores come when the search has finished: the test images are opened once, and only then.")
        return
    images = record.dataset.get("images", {}).get("test", 0)
    st.markdown(f"**On {images:,} test images, opened once**")
    st.dataframe(scores.style.format(precision=4), hide_index=True, key=f"scores-{record.name}", alt="Test scores")


def _trials(record: StudyRecord) -> None:
    st.subheader("Trials", anchor=False)
    st.dataframe(frames.trials(record), hide_index=True, column_config=COLUMNS, key=f"trials-{record.name}", alt="All trials")


if __name__ == "__main__":
    show()
