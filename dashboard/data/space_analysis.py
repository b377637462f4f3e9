"""What a search has found out about its space: DataFrames for the charts, and a sentence under each."""

import math
import warnings
from collections.abc import Callable, Mapping

import optuna
import pandas as pd
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution, json_to_distribution
from optuna.importance import BaseImportanceEvaluator, FanovaImportanceEvaluator, PedAnovaImportanceEvaluator

from dashboard.data import trial_table
from search.record.records import StudyRecord, TrialRecord, in_optuna
from trainables.errors import StorageError

EVALUATORS: Mapping[str, Callable[[], BaseImportanceEvaluator]] = {
    "PED-ANOVA": PedAnovaImportanceEvaluator,
    "fANOVA": lambda: FanovaImportanceEvaluator(seed=0),
}
"""Name → Optuna's evaluator: PED-ANOVA asks what good trials have in common, fANOVA what explains the value over the whole space."""
MOST_OF_IT = 0.8
FEWEST, TELLING, MOST = 5, 10, 500
"""Finished trials from which on the space is shown, and importance computed; and how many are looked at: the best and the latest."""


def looked_at(record: StudyRecord, most: int = MOST) -> list[TrialRecord]:
    """Return finished trials: all, or of many the best and the latest. Raises ``StorageError`` where there are too few to learn from."""
    finished = [trial for trial in record.trials if trial.state == "finished" and trial.value is not None]
    if len(finished) < FEWEST:
        raise StorageError(f"{len(finished)} trials have finished; {FEWEST} are needed to say something of the space")
    if len(finished) <= most:
        return finished
    chosen = {trial.number for trial in record.ranking[: most // 2]} | {trial.number for trial in finished[-most // 2 :]}
    return [trial for trial in finished if trial.number in chosen]


def importance(record: StudyRecord, evaluator: str) -> pd.DataFrame:
    """Return a row per parameter, the most important first: parameter, importance (shares of 1).

    Raises ``StorageError`` where there are too few trials, or the values of all are the same.
    """
    trials = looked_at(record)
    if not record.parameters:
        raise StorageError("nothing is searched in this study, or an older version of injerto recorded it without its ranges")
    if len(trials) < TELLING:
        raise StorageError(f"{len(trials)} trials have finished; from {TELLING} on something can be said of what matters")
    if len({trial.value for trial in trials}) < 2:
        raise StorageError("all finished trials have the same value, so nothing is important")
    study = in_optuna(record, trials)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that there are few trials is said in words
            found = optuna.importance.get_param_importances(study, evaluator=EVALUATORS[evaluator]())
    except (ValueError, RuntimeError) as error:
        raise StorageError(f"{evaluator} finds nothing to compare: {error}") from None
    rows = [(name, value) for name, value in found.items() if math.isfinite(value)]
    if not rows:
        raise StorageError(f"{evaluator} finds no parameter that every trial has")
    return pd.DataFrame(rows, columns=["parameter", "importance"]).sort_values("importance", ascending=False, kind="stable")


def importance_in_words(frame: pd.DataFrame, evaluator: str, trials: int) -> str:
    """Say what matters most."""
    first = frame.iloc[0]
    most = int((frame["importance"].cumsum() < MOST_OF_IT).sum()) + 1
    share = frame["importance"].iloc[:most].sum()
    rest = f" The first {most} of {len(frame)} make up {share:.0%}." if 1 < most < len(frame) else ""
    return f"{first['parameter']} matters most ({first['importance']:.0%}), by {evaluator} over {trials} finished trials.{rest}"


def values(record: StudyRecord) -> pd.DataFrame:
    """Return a row per trial that ended with a value: trial, state, value, epochs, and the searched fields where they apply."""
    frame = trial_table.trials(record)
    kept = frame[frame["state"].isin(("finished", "stopped")) & frame["value"].notna()]
    return kept[["trial", "state", "value", *trial_table.searched(record)]].reset_index(drop=True)


def logarithmic(record: StudyRecord, field: str) -> bool:
    """Say whether a field is searched on a logarithmic scale."""
    ranges = [json_to_distribution(about["range"]) for about in record.parameters.values() if about["sets"] == field]
    return any(isinstance(found, FloatDistribution | IntDistribution) and found.log for found in ranges)


def categorical(record: StudyRecord, field: str) -> bool:
    """Say whether a field takes one of some choices."""
    ranges = [json_to_distribution(about["range"]) for about in record.parameters.values() if about["sets"] == field]
    return any(isinstance(found, CategoricalDistribution) for found in ranges)


def best_part(frame: pd.DataFrame, field: str, mode: str) -> str:
    """Say where the best quarter of the finished trials lies in a field, and where all do."""
    used = frame[(frame["state"] == "finished") & frame[field].notna()]
    if len(used) < FEWEST:
        return f"{field}: too few finished trials use it to say where it is best."
    best = used.sort_values("value", ascending=mode == "min").head(max(2, len(used) // 4))
    if pd.api.types.is_numeric_dtype(used[field]) and used[field].nunique() > 2:
        if _span(best[field]) == _span(used[field]):
            return f"{field}: the best quarter of {len(used)} finished trials is as spread out as all of them."
        return f"The best quarter of {len(used)} finished trials has {field} {_span(best[field])}; all of them {_span(used[field])}."
    means = used.groupby(used[field].astype(str))["value"].median().sort_values(ascending=mode == "min")
    first = means.index[0]
    most = f"{(best[field].astype(str) == first).sum()} of the best {len(best)} trials have it"
    return f"{field} {first} has the best median value, {means.iloc[0]:.4g}; {most}."


def _span(column: pd.Series) -> str:
    low, high = column.min(), column.max()
    return f"{low:.4g}" if low == high else f"from {low:.4g} to {high:.4g}"


def by_strength(record: StudyRecord) -> pd.DataFrame:
    """Return a row per finished trial: augmentation_strength, value, trial."""
    finished = [trial for trial in record.trials if trial.state == "finished" and trial.value is not None]
    known = [trial for trial in finished if "augmentation_strength" in trial.config]
    rows = [(trial.config["augmentation_strength"], trial.value, trial.number) for trial in known]
    return pd.DataFrame(rows, columns=["augmentation_strength", "value", "trial"])
