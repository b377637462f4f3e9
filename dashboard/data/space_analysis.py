"""Analysis of the searched space: importance of parameters, values by field, and the sentences under the charts."""

import math
import warnings
from collections.abc import Callable, Mapping

import optuna
import pandas as pd
from optuna.distributions import FloatDistribution, IntDistribution, json_to_distribution
from optuna.importance import BaseImportanceEvaluator, FanovaImportanceEvaluator, PedAnovaImportanceEvaluator

from dashboard.data import trial_table
from search.record.memory_study import in_memory_study
from search.record.records import StudyRecord, TrialRecord
from trainables.errors import StorageError

EVALUATORS: Mapping[str, Callable[[], BaseImportanceEvaluator]] = {
    "PED-ANOVA": PedAnovaImportanceEvaluator,
    "fANOVA": lambda: FanovaImportanceEvaluator(seed=0),
}
"""Name → Optuna's evaluator. PED-ANOVA: what distinguishes the best trials. fANOVA: what explains the value over the whole space."""
LARGE_SHARE = 0.8
"""The sentence on importance says how many parameters together have this share of it."""
FEWEST_TRIALS, FEWEST_FOR_IMPORTANCE, MOST_TRIALS = 5, 10, 500
"""Number of finished trials needed to show the space, number needed to compute importance, and greatest number analyzed."""


def analyzed_trials(record: StudyRecord, most: int = MOST_TRIALS) -> list[TrialRecord]:
    """Return the finished trials, by number. If they are more than `most`, only the best `most` / 2 and the latest `most` / 2.

    A trial can be among both, so there may be fewer. Raises ``StorageError`` if fewer than `FEWEST_TRIALS` have finished.
    """
    finished = [trial for trial in record.trials if trial.state == "finished" and trial.value is not None]
    if len(finished) < FEWEST_TRIALS:
        raise StorageError(f"{len(finished)} trials have finished; {FEWEST_TRIALS} are needed to analyze the space")
    if len(finished) <= most:
        return finished
    chosen = {trial.number for trial in record.ranking[: most // 2]} | {trial.number for trial in finished[-most // 2 :]}
    return [trial for trial in finished if trial.number in chosen]


def importance(record: StudyRecord, evaluator: str) -> pd.DataFrame:
    """Return a row per parameter, the most important first: parameter (name), importance (shares that add up to 1).

    `evaluator` is a key of `EVALUATORS`. Raises ``StorageError`` if fewer than `FEWEST_FOR_IMPORTANCE` trials have finished, if all have
    the same value, if the record has no ranges of parameters, or if the evaluator cannot compare these trials.
    """
    trials = analyzed_trials(record)
    if not record.parameters:
        raise StorageError("this study searches no parameter, or an older version of injerto recorded it without the ranges")
    if len(trials) < FEWEST_FOR_IMPORTANCE:
        raise StorageError(f"{len(trials)} trials have finished; {FEWEST_FOR_IMPORTANCE} are needed to compute importance")
    if len({trial.value for trial in trials}) < 2:
        raise StorageError("all finished trials have the same value, so no parameter is important")
    study = in_memory_study(record, trials)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Optuna warns of few trials; the screen states their number
            importances = optuna.importance.get_param_importances(study, evaluator=EVALUATORS[evaluator]())
    except (ValueError, RuntimeError) as error:
        raise StorageError(f"{evaluator} cannot compare these trials: {error}") from None
    rows = [(name, value) for name, value in importances.items() if math.isfinite(value)]
    if not rows:
        raise StorageError(f"{evaluator} needs a parameter that every trial has, and there is none")
    return pd.DataFrame(rows, columns=["parameter", "importance"]).sort_values("importance", ascending=False, kind="stable")


def describe_importance(frame: pd.DataFrame, evaluator: str, trials: int) -> str:
    """Return a sentence on the most important parameters. `frame`: from `importance`. `evaluator`: its name. `trials`: how many it used."""
    first = frame.iloc[0]
    count = int((frame["importance"].cumsum() < LARGE_SHARE).sum()) + 1
    share = frame["importance"].iloc[:count].sum()
    rest = f" The first {count} of {len(frame)} make up {share:.0%}." if 1 < count < len(frame) else ""
    return f"{first['parameter']} matters most ({first['importance']:.0%}), by {evaluator} over {trials} finished trials.{rest}"


def values_by_field(record: StudyRecord) -> pd.DataFrame:
    """Return a row per finished or stopped trial with a value: trial (number), state, value, and a column per searched field.

    A cell is empty where the field was not sampled for the trial.
    """
    frame = trial_table.trials_table(record)
    kept = frame[frame["state"].isin(("finished", "stopped")) & frame["value"].notna()]
    return kept[["trial", "state", "value", *trial_table.searched_fields(record)]].reset_index(drop=True)


def is_logarithmic(record: StudyRecord, field: str) -> bool:
    """Return whether a field of the configuration is searched on a logarithmic scale; False if it is not searched."""
    ranges = [json_to_distribution(about["range"]) for about in record.parameters.values() if about["sets"] == field]
    return any(isinstance(one, FloatDistribution | IntDistribution) and one.log for one in ranges)


def describe_best_range(frame: pd.DataFrame, field: str, mode: str) -> str:
    """Return a sentence that compares a field's values in the best quarter of the finished trials with those in all.

    For choices it names the one with the best median value. `frame` is from `values_by_field`; `mode` is ``min`` or ``max``.
    """
    used = frame[(frame["state"] == "finished") & frame[field].notna()]
    if len(used) < FEWEST_TRIALS:
        return f"{field}: too few finished trials use it for a comparison."
    best = used.sort_values("value", ascending=mode == "min").head(max(2, len(used) // 4))
    if pd.api.types.is_numeric_dtype(used[field]) and used[field].nunique() > 2:
        if _span(best[field]) == _span(used[field]):
            return f"{field}: the best quarter of {len(used)} finished trials covers the same range as all of them."
        return f"The best quarter of {len(used)} finished trials has {field} {_span(best[field])}; all of them {_span(used[field])}."
    medians = used.groupby(used[field].astype(str))["value"].median().sort_values(ascending=mode == "min")
    first = medians.index[0]
    share = f"{(best[field].astype(str) == first).sum()} of the best {len(best)} trials have it"
    return f"{field} {first} has the best median value, {medians.iloc[0]:.4g}; {share}."


def _span(column: pd.Series) -> str:
    low, high = column.min(), column.max()
    return f"{low:.4g}" if low == high else f"from {low:.4g} to {high:.4g}"


def values_by_strength(record: StudyRecord) -> pd.DataFrame:
    """Return a row per finished trial with a value: augmentation_strength (0 to 1), value, trial (number)."""
    finished = [trial for trial in record.trials if trial.state == "finished" and trial.value is not None]
    known = [trial for trial in finished if "augmentation_strength" in trial.config]
    rows = [(trial.config["augmentation_strength"], trial.value, trial.number) for trial in known]
    return pd.DataFrame(rows, columns=["augmentation_strength", "value", "trial"])
