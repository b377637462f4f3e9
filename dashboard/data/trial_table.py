"""Tables of a study's trials, to filter, sort and compare, and of its failures; fast enough for ten thousand trials."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from search.record.records import StudyRecord, TrialRecord

FIXED_COLUMNS = ("trial", "state", "value", "epochs done", "epochs", "minutes")
REASON = "why it ended"


def searched_fields(record: StudyRecord) -> list[str]:
    """Return the names of the configuration fields that the study searches, in the order of its space.

    A record of an older version has no space; there the fields are those that its trials' parameters name.
    """
    if record.parameters:
        return list(dict.fromkeys(about["sets"] for about in record.parameters.values()))
    return list(dict.fromkeys(name for trial in record.trials for name in trial.params if name in trial.config))


def used_fields(record: StudyRecord, trial: TrialRecord) -> set[str]:
    """Return the names of the searched fields that were sampled for a trial; in a conditional space not all are."""
    sets = {name: about["sets"] for name, about in record.parameters.items()}
    return {sets.get(name, name) for name in trial.params}


def trials_table(record: StudyRecord) -> pd.DataFrame:
    """Return a row per trial: the `FIXED_COLUMNS`, a column per searched field, `REASON` (text: why the trial ended), and node (name).

    "trial" is the number, "epochs" the planned ones, "minutes" see `minutes_taken`. A field that was not sampled for a trial is empty.
    """
    fields = [name for name in searched_fields(record) if name not in FIXED_COLUMNS]
    columns: dict[str, list[Any]] = {name: [] for name in (*FIXED_COLUMNS, *fields, REASON, "node")}
    for trial in record.trials:
        used = used_fields(record, trial)
        row = (trial.number, trial.state, trial.value, trial.epochs_done, trial.epochs_planned, minutes_taken(trial))
        for name, value in zip(FIXED_COLUMNS, row, strict=True):
            columns[name].append(value)
        for name in fields:
            columns[name].append(trial.config.get(name) if name in used else None)
        columns[REASON].append(describe_ending(trial))
        columns["node"].append(trial.attributes.get("node"))
    frame = pd.DataFrame(columns)
    return frame.astype(dict.fromkeys(("value", "minutes"), float))


def minutes_taken(trial: TrialRecord) -> float | None:
    """Return the minutes from a trial's start to its end, pauses included; None if it has not ended."""
    return (trial.ended - trial.started).total_seconds() / 60 if trial.started and trial.ended else None


def describe_ending(trial: TrialRecord) -> str:
    """Return as text who chose a trial's configuration, if it is the default recipe or a user's, and why it ended, if it has."""
    default = "the default recipe" if trial.is_default_recipe else "enqueued by a user" if trial.attributes.get("enqueued_by") else ""
    reason = trial.stop_reason or ("all its epochs are done" if trial.state == "finished" else "")
    return "; ".join(part for part in (default, reason) if part)


def filtered(
    frame: pd.DataFrame,
    *,
    states: Sequence[str] = (),
    text: str = "",
    ranges: Mapping[str, tuple[float, float]] | None = None,
    choices: Mapping[str, Sequence[Any]] | None = None,
) -> pd.DataFrame:
    """Return the rows of `frame`, from `trials_table`, that satisfy every condition. An empty argument is no condition.

    `states`: the state is one of these. `text`: a cell contains it, in upper or lower case. `ranges`: column → lowest and highest value,
    both included; a missing value is outside. `choices`: column → accepted values, compared as text; an empty sequence accepts no row.
    """
    kept = pd.Series(True, frame.index)
    if states:
        kept &= frame["state"].isin(states)
    for name, (low, high) in (ranges or {}).items():
        kept &= frame[name].between(low, high)
    for name, wanted in (choices or {}).items():
        kept &= frame[name].astype(str).isin([str(one) for one in wanted])
    if text:
        cells = frame[kept].astype(str)
        matches = cells.apply(lambda column: column.str.contains(text, case=False, regex=False)).any(axis=1)
        kept &= matches.reindex(frame.index, fill_value=False)
    return frame[kept]


def sorted_by(frame: pd.DataFrame, by: str, *, descending: bool) -> pd.DataFrame:
    """Return the rows sorted by the column `by`, those without a value last. A column that is not numeric is sorted as text."""
    key = None if pd.api.types.is_numeric_dtype(frame[by]) else lambda column: column.astype(str).where(column.notna())
    return frame.sort_values(by, ascending=not descending, na_position="last", kind="stable", key=key)


def is_numeric(frame: pd.DataFrame, name: str) -> bool:
    """Return whether the column `name` has a numeric type and more than two different values, so that it is filtered by a range."""
    return pd.api.types.is_numeric_dtype(frame[name]) and frame[name].nunique() > 2


def configurations(record: StudyRecord, chosen: Sequence[TrialRecord], *, differing: bool = False) -> pd.DataFrame:
    """Return the configurations of the `chosen` trials by `side_by_side`: a row per field, a column per trial, such as "trial 7"."""
    return side_by_side({f"trial {trial.number}": trial.config for trial in chosen}, differing=differing)


def side_by_side(configs: Mapping[str, Mapping[str, Any]], *, differing: bool) -> pd.DataFrame:
    """Return a row per field and a column per configuration, all values as text; a dash where a configuration lacks the field.

    `configs`: column name → configuration. Numbers have four significant digits. The field ``seed`` is left out. With `differing`, only the
    fields whose texts differ.
    """
    fields = dict.fromkeys(name for config in configs.values() for name in config if name != "seed")
    rows = {field: [_cell(config.get(field)) for config in configs.values()] for field in fields}
    kept = {field: row for field, row in rows.items() if not differing or len(set(row)) > 1}
    return pd.DataFrame.from_dict(kept, orient="index", columns=list(configs))


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.4g}"
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def failures(record: StudyRecord) -> pd.DataFrame:
    """Return a row per kind of failure, the most frequent first: kind, trials, example, message, where; no row without failures.

    `trials` is how many failed so. `example` is the number of the latest of them and `message` its error. `where`: see `failure_region`.
    """
    failed: dict[str, list[TrialRecord]] = {}
    for trial in record.trials:
        if trial.error:
            failed.setdefault(trial.error.get("kind", "other"), []).append(trial)
    frame = trials_table(record) if failed else pd.DataFrame()
    rows = [
        {
            "kind": kind,
            "trials": len(trials),
            "example": trials[-1].number,
            "message": (trials[-1].error or {}).get("message", ""),
            "where": failure_region(frame, {trial.number for trial in trials}, searched_fields(record)),
        }
        for kind, trials in sorted(failed.items(), key=lambda item: -len(item[1]))
    ]
    return pd.DataFrame(rows, columns=["kind", "trials", "example", "message", "where"])


def failure_region(frame: pd.DataFrame, numbers: set[int], fields: Sequence[str]) -> str:
    """Return text on the region, an interval or a choice of one field, where the failed trials are most concentrated.

    `frame` is from `trials_table`, `numbers` are the failed trials. A region must contain all of them. The text is empty if fewer than two
    or all trials failed, or if in the best region less than half of the trials failed, or less than twice the share of the whole study.
    """
    is_failed = frame["trial"].isin(numbers)
    share, best = is_failed.mean(), (0.0, "")
    if is_failed.sum() < 2 or is_failed.all():
        return ""
    for name in fields:
        values = frame.loc[is_failed, name].dropna()
        if len(values) < is_failed.sum():
            continue
        if is_numeric(frame, name):
            in_region = frame[name].between(values.min(), values.max())
            words = f"{name} from {values.min():.3g} to {values.max():.3g}"
        elif values.astype(str).nunique() == 1:
            in_region = frame[name].astype(str) == str(values.iloc[0])
            words = f"{name} {values.iloc[0]}"
        else:
            continue
        concentration = is_failed[in_region].mean()
        if concentration > best[0]:
            best = (concentration, f"{words}: {is_failed.sum()} of {in_region.sum()} trials failed")
    return best[1] if best[0] >= max(0.5, 2 * share) else ""
