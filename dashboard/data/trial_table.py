"""Records → tables of trials: for reading, filtering and comparing, ten thousand rows of them."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from search.record.records import StudyRecord, TrialRecord

ABOUT = ("trial", "state", "value", "epochs done", "epochs", "minutes")
REASON = "why it ended"


def searched(record: StudyRecord) -> list[str]:
    """Return the fields of a trial that the study searches, in the order of its space; of an older record those that its trials name."""
    if record.parameters:
        return list(dict.fromkeys(about["sets"] for about in record.parameters.values()))
    return list(dict.fromkeys(name for trial in record.trials for name in trial.params if name in trial.config))


def applies(record: StudyRecord, trial: TrialRecord) -> set[str]:
    """Return the searched fields that were drawn for a trial: those of the other branch of a conditional space were not."""
    sets = {name: about["sets"] for name, about in record.parameters.items()}
    return {sets.get(name, name) for name in trial.params}


def trials(record: StudyRecord) -> pd.DataFrame:
    """Return a row per trial: number, state, value, epochs done and planned, minutes, the searched fields that apply, why it ended."""
    fields = [name for name in searched(record) if name not in ABOUT]
    columns: dict[str, list[Any]] = {name: [] for name in (*ABOUT, *fields, REASON, "node")}
    for trial in record.trials:
        used = applies(record, trial)
        row = (trial.number, trial.state, trial.value, trial.epochs_done, trial.epochs_planned, minutes(trial))
        for name, value in zip(ABOUT, row, strict=True):
            columns[name].append(value)
        for name in fields:
            columns[name].append(trial.config.get(name) if name in used else None)
        columns[REASON].append(ending(trial))
        columns["node"].append(trial.attributes.get("node"))
    frame = pd.DataFrame(columns)
    return frame.astype(dict.fromkeys(("value", "minutes"), float))


def minutes(trial: TrialRecord) -> float | None:
    """Return how long an ended trial took, pauses included."""
    return (trial.ended - trial.started).total_seconds() / 60 if trial.started and trial.ended else None


def ending(trial: TrialRecord) -> str:
    """Return why a trial ended, in words."""
    default = "the default recipe" if trial.is_default_recipe else "asked for by hand" if trial.attributes.get("enqueued_by") else ""
    reason = trial.stop_reason or ("all its epochs are done" if trial.state == "finished" else "")
    return "; ".join(part for part in (default, reason) if part)


def matching(
    frame: pd.DataFrame,
    *,
    states: Sequence[str] = (),
    text: str = "",
    ranges: Mapping[str, tuple[float, float]] | None = None,
    choices: Mapping[str, Sequence[Any]] | None = None,
) -> pd.DataFrame:
    """Return the rows of `trials` in some states, with a text in any cell, and with fields in ranges (ends included) or among choices."""
    kept = pd.Series(True, frame.index)
    if states:
        kept &= frame["state"].isin(states)
    for name, (low, high) in (ranges or {}).items():
        kept &= frame[name].between(low, high)
    for name, wanted in (choices or {}).items():
        kept &= frame[name].astype(str).isin([str(one) for one in wanted])
    if text:
        cells = frame[kept].astype(str)
        found = cells.apply(lambda column: column.str.contains(text, case=False, regex=False)).any(axis=1)
        kept &= found.reindex(frame.index, fill_value=False)
    return frame[kept]


def ordered(frame: pd.DataFrame, by: str, *, descending: bool) -> pd.DataFrame:
    """Return the rows sorted by a column, those without a value last; choices by their names."""
    key = None if pd.api.types.is_numeric_dtype(frame[by]) else lambda column: column.astype(str).where(column.notna())
    return frame.sort_values(by, ascending=not descending, na_position="last", kind="stable", key=key)


def numeric(frame: pd.DataFrame, name: str) -> bool:
    """Say whether a column holds numbers that are more than a few choices."""
    return pd.api.types.is_numeric_dtype(frame[name]) and frame[name].nunique() > 2


def settings(record: StudyRecord, chosen: Sequence[TrialRecord], *, differing: bool = False) -> pd.DataFrame:
    """Return a row per field of the configuration, a column per trial; with `differing`, only the rows in which they differ."""
    return side_by_side({f"trial {trial.number}": trial.config for trial in chosen}, differing=differing)


def side_by_side(configs: Mapping[str, Mapping[str, Any]], *, differing: bool) -> pd.DataFrame:
    """Return a row per field, a column per configuration, as text; a field that one has not is a dash."""
    fields = dict.fromkeys(name for config in configs.values() for name in config if name != "seed")
    rows = {field: [_shown(config.get(field)) for config in configs.values()] for field in fields}
    kept = {field: row for field, row in rows.items() if not differing or len(set(row)) > 1}
    return pd.DataFrame.from_dict(kept, orient="index", columns=list(configs))


def _shown(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.4g}"
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def failures(record: StudyRecord) -> pd.DataFrame:
    """Return a row per kind of failure, the most frequent first: kind, trials, an example's number and message, where it happens."""
    failed: dict[str, list[TrialRecord]] = {}
    for trial in record.trials:
        if trial.error:
            failed.setdefault(trial.error.get("kind", "other"), []).append(trial)
    frame = trials(record) if failed else pd.DataFrame()
    rows = [
        {
            "kind": kind,
            "trials": len(these),
            "example": these[-1].number,
            "message": (these[-1].error or {}).get("message", ""),
            "where": region(frame, {trial.number for trial in these}, searched(record)),
        }
        for kind, these in sorted(failed.items(), key=lambda item: -len(item[1]))
    ]
    return pd.DataFrame(rows, columns=["kind", "trials", "example", "message", "where"])


def region(frame: pd.DataFrame, numbers: set[int], fields: Sequence[str]) -> str:
    """Return the part of the space in which some trials lie and few others: the narrowest interval or choice of one field, in words.

    Empty where there are too few of them, or no part in which they are half of the trials and at least twice as frequent as overall.
    """
    inside = frame["trial"].isin(numbers)
    share, best = inside.mean(), (0.0, "")
    if inside.sum() < 2 or inside.all():
        return ""
    for name in fields:
        theirs = frame.loc[inside, name].dropna()
        if len(theirs) < inside.sum():
            continue
        if numeric(frame, name):
            among = frame[name].between(theirs.min(), theirs.max())
            words = f"{name} from {theirs.min():.3g} to {theirs.max():.3g}"
        elif theirs.astype(str).nunique() == 1:
            among = frame[name].astype(str) == str(theirs.iloc[0])
            words = f"{name} {theirs.iloc[0]}"
        else:
            continue
        there = inside[among].mean()
        if there > best[0]:
            best = (there, f"{words}: {inside.sum()} of {among.sum()} trials there")
    return best[1] if best[0] >= max(0.5, 2 * share) else ""
