"""Space: the importance of the parameters, and where in the space the good trials are."""

from contextlib import suppress
from typing import Any

import pandas as pd
import streamlit as st
from optuna.visualization import plot_contour, plot_rank

from dashboard import layout
from dashboard.charts import space_charts
from dashboard.data import space_analysis, trial_table
from dashboard.markdown_text import escape
from dashboard.record_errors import show_errors
from search.record.memory_study import in_memory_study
from search.record.records import StudyRecord
from trainables.errors import InjertoError

MOST_DRAWN = 400
"""Greatest number of trials drawn as lines (the best) or used for contours (the best and the latest)."""

EXPLANATIONS = {
    "PED-ANOVA": "PED-ANOVA measures what distinguishes the best trials; a parameter of sgd, for example, among the trials with sgd.",
    "fANOVA": "fANOVA measures what explains the value over the whole space; it omits parameters that not every trial has.",
}
"""Name of an evaluator → what it measures."""


@st.cache_data(show_spinner="Computing the importance…", max_entries=16)
def _importance(_record: StudyRecord, study: tuple[str, str | None], finished: int, evaluator: str) -> pd.DataFrame:
    """Return `space_analysis.importance`, cached by all arguments but the record: the study's name and identity, its finished trials."""
    return space_analysis.importance(_record, evaluator)


@st.cache_data(show_spinner="Drawing…", max_entries=32)
def _pair(_record: StudyRecord, study: tuple[str, str | None], finished: int, kind: str, params: tuple[str, str]) -> Any:
    """Return Optuna's Plotly figure of two parameters (`kind`: "contour" or "rank"), cached by all arguments but the record."""
    optuna_study = in_memory_study(_record, space_analysis.analyzed_trials(_record, MOST_DRAWN))
    figure = {"contour": plot_contour, "rank": plot_rank}[kind](optuna_study, params=list(params), target_name=_record.metric)
    figure.update_layout(title=None, height=420, margin={"l": 8, "r": 8, "t": 30, "b": 8})
    return figure


def draw(record: StudyRecord) -> None:
    """Show the charts of the space: importance, parallel coordinates, value by parameter, and pairs of parameters.

    Raises ``StorageError`` if too few trials have finished.
    """
    space_analysis.analyzed_trials(record)
    frame, fields = space_analysis.values_by_field(record), trial_table.searched_fields(record)
    logarithmic = [name for name in fields if space_analysis.is_logarithmic(record, name)]
    with show_errors():
        _importance_chart(record)
    with show_errors():
        _parallel_chart(record, frame, fields, logarithmic)
    with show_errors():
        _slices(record, frame, fields, logarithmic)
    with show_errors():
        _pairs(record)


def _importance_chart(record: StudyRecord) -> None:
    st.subheader("Importance of parameters", anchor=False)
    names = list(space_analysis.EVALUATORS)
    evaluator = st.segmented_control("by", names, default=names[0], key="by", required=True, bind="query-params") or names[0]
    frame = _importance(record, (record.name, record.identity), record.counts["finished"], evaluator)
    st.plotly_chart(space_charts.importance(frame), key=f"importance-{record.name}", alt="Importance of parameters")
    used = len(space_analysis.analyzed_trials(record))
    st.caption(f"{escape(space_analysis.describe_importance(frame, evaluator, used))} {EXPLANATIONS[evaluator]}")


def _parallel_chart(record: StudyRecord, frame: pd.DataFrame, fields: list[str], logarithmic: list[str]) -> None:
    st.subheader("Parallel coordinates", anchor=False)
    finished = frame[frame["state"] == "finished"].sort_values("value", ascending=record.mode == "min").head(MOST_DRAWN)
    st.plotly_chart(
        space_charts.parallel(finished, fields, record.metric, record.mode, logarithmic),
        key=f"parallel-{record.name}",
        alt="Parallel coordinates",
    )
    best = finished.iloc[0]
    few = "" if len(finished) == record.counts["finished"] else f" Only the best {len(finished)} finished trials are drawn."
    st.caption(f"The best trial is {best['trial']} at {best['value']:.4g}. Drag along an axis to keep only the trials in that range.{few}")


def _slices(record: StudyRecord, frame: pd.DataFrame, fields: list[str], logarithmic: list[str]) -> None:
    st.subheader("Each parameter", anchor=False)
    sample = frame if len(frame) <= 4 * MOST_DRAWN else frame.sample(4 * MOST_DRAWN, random_state=0)
    st.plotly_chart(
        space_charts.slices(sample, fields, record.metric, logarithmic), key=f"slices-{record.name}", alt="Value by each parameter"
    )
    st.markdown("\n".join(f"- {escape(space_analysis.describe_best_range(frame, name, record.mode))}" for name in fields))
    if "epochs" in fields:
        default = record.default_recipe.value if record.default_recipe and record.default_recipe.state == "finished" else None
        st.markdown("**Value by number of epochs**")
        st.plotly_chart(space_charts.epochs(sample, record.metric, default=default), key=f"epochs-{record.name}", alt="Value by epochs")
        st.caption(escape(space_analysis.describe_best_range(frame, "epochs", record.mode)))


def _pairs(record: StudyRecord) -> None:
    st.subheader("Two parameters", anchor=False)
    names = list(record.parameters)
    with suppress(InjertoError):
        names = list(_importance(record, (record.name, record.identity), record.counts["finished"], "PED-ANOVA")["parameter"])
    if len(names) < 2:
        st.caption("Fewer than two parameters are searched.")
        return
    first, second, kind = st.columns(3)
    across = first.selectbox("one parameter", names, index=0, key="across", bind="query-params")
    others = [name for name in names if name != across]
    up = second.selectbox("and another", others, index=0, key="up", bind="query-params")
    chart = kind.segmented_control("as", ["contour", "rank"], default="contour", key="as", required=True, bind="query-params")
    both = sum(1 for trial in space_analysis.analyzed_trials(record) if across in trial.params and up in trial.params)
    if both < space_analysis.FEWEST_TRIALS:
        st.caption(f"{both} finished trials use both parameters; {space_analysis.FEWEST_TRIALS} are needed.")
        return
    figure = _pair(record, (record.name, record.identity), record.counts["finished"], chart or "contour", (across, up))
    st.plotly_chart(figure, key=f"pair-{record.name}", alt=f"{record.metric} by two parameters")
    st.caption(f"{both} finished trials use both parameters; between their points the surface is interpolated.")


if __name__ == "__main__":
    layout.show_study_screen(layout.SCREENS["space"], draw, live=False)
