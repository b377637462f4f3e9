"""Space: what matters, and where in the space the good trials are."""

from contextlib import suppress
from typing import Any

import pandas as pd
import streamlit as st
from optuna.visualization import plot_contour, plot_rank

from dashboard import layout, records_cache
from dashboard.charts import space_charts
from dashboard.data import space_analysis, trial_table
from search.record.records import StudyRecord, in_optuna
from trainables.errors import InjertoError

MOST_DRAWN = 400
"""Trials through which lines or contours are drawn: the best and the latest."""


@st.cache_data(show_spinner="Computing the importance…", max_entries=16)
def _importance(_record: StudyRecord, whose: tuple[str, str | None], finished: int, evaluator: str) -> pd.DataFrame:
    return space_analysis.importance(_record, evaluator)


@st.cache_data(show_spinner="Drawing…", max_entries=32)
def _pair(_record: StudyRecord, whose: tuple[str, str | None], finished: int, kind: str, params: tuple[str, str]) -> Any:
    study = in_optuna(_record, space_analysis.looked_at(_record, MOST_DRAWN))
    drawn = {"contour": plot_contour, "rank": plot_rank}[kind](study, params=list(params), target_name=_record.metric)
    drawn.update_layout(title=None, height=420, margin={"l": 8, "r": 8, "t": 30, "b": 8})
    return drawn


def draw(record: StudyRecord) -> None:
    """Show what the trials say of the space."""
    space_analysis.looked_at(record)
    frame, fields = space_analysis.values(record), trial_table.searched(record)
    logarithmic = [name for name in fields if space_analysis.logarithmic(record, name)]
    with records_cache.kindly():
        _matters(record)
    with records_cache.kindly():
        _lines(record, frame, fields, logarithmic)
    with records_cache.kindly():
        _fields(record, frame, fields, logarithmic)
    with records_cache.kindly():
        _pairs(record)


def _matters(record: StudyRecord) -> None:
    st.subheader("What matters", anchor=False)
    evaluator = st.segmented_control(
        "by", list(space_analysis.EVALUATORS), default="PED-ANOVA", key="by", required=True, bind="query-params"
    )
    found = _importance(record, (record.name, record.identity), record.counts["finished"], evaluator or "PED-ANOVA")
    st.plotly_chart(space_charts.importance(found), key=f"importance-{record.name}", alt="Importance of parameters")
    used = len(space_analysis.looked_at(record))
    st.caption(
        records_cache.plain(space_analysis.importance_in_words(found, evaluator or "PED-ANOVA", used))
        + " "
        + _about(evaluator or "PED-ANOVA")
    )


def _about(evaluator: str) -> str:
    return {
        "PED-ANOVA": "It asks what sets the best trials apart; a parameter of sgd, say, is judged among the trials with sgd.",
        "fANOVA": "It asks what explains the value over the whole space, and leaves out parameters that not every trial has.",
    }[evaluator]


def _lines(record: StudyRecord, frame: pd.DataFrame, fields: list[str], logarithmic: list[str]) -> None:
    st.subheader("Trials as lines through the space", anchor=False)
    finished = frame[frame["state"] == "finished"].sort_values("value", ascending=record.mode == "min").head(MOST_DRAWN)
    st.plotly_chart(
        space_charts.parallel(finished, fields, record.metric, record.mode, logarithmic),
        key=f"parallel-{record.name}",
        alt="Parallel coordinates",
    )
    best = finished.iloc[0]
    few = "" if len(finished) == record.counts["finished"] else f" The best {len(finished)} finished trials are drawn."
    st.caption(f"The best trial is {best['trial']} at {best['value']:.4g}. Drag along an axis to keep the trials that pass there.{few}")


def _fields(record: StudyRecord, frame: pd.DataFrame, fields: list[str], logarithmic: list[str]) -> None:
    st.subheader("Each parameter by itself", anchor=False)
    drawn = frame if len(frame) <= 4 * MOST_DRAWN else frame.sample(4 * MOST_DRAWN, random_state=0)
    st.plotly_chart(
        space_charts.slices(drawn, fields, record.metric, logarithmic), key=f"slices-{record.name}", alt="Value by each parameter"
    )
    st.markdown("\n".join(f"- {records_cache.plain(space_analysis.best_part(frame, name, record.mode))}" for name in fields))
    if "epochs" in fields:
        default = record.default_recipe.value if record.default_recipe and record.default_recipe.state == "finished" else None
        st.markdown("**What longer training buys**")
        st.plotly_chart(space_charts.epochs(drawn, record.metric, default=default), key=f"epochs-{record.name}", alt="Value by epochs")
        st.caption(records_cache.plain(space_analysis.best_part(frame, "epochs", record.mode)))


def _pairs(record: StudyRecord) -> None:
    st.subheader("Two parameters together", anchor=False)
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
    drawn = kind.segmented_control("as", ["contour", "rank"], default="contour", key="as", required=True, bind="query-params")
    both = sum(1 for trial in space_analysis.looked_at(record) if across in trial.params and up in trial.params)
    if both < space_analysis.FEWEST:
        st.caption(f"{both} finished trials use both; {space_analysis.FEWEST} are needed.")
        return
    figure = _pair(record, (record.name, record.identity), record.counts["finished"], drawn or "contour", (across, up))
    st.plotly_chart(figure, key=f"pair-{record.name}", alt=f"{record.metric} by two parameters")
    st.caption(f"{both} finished trials use both parameters; between them the surface is guessed.")


if __name__ == "__main__":
    layout.of_study(layout.SCREENS["space"], draw, live=False)
