"""The label columns of a CSV become targets; their form gives the task."""

from typing import Any

import numpy as np
import numpy.typing as npt

from trainables.config import TaskName
from trainables.data.csv_table import Table
from trainables.data.samples import class_task, listed, number, order_classes
from trainables.errors import DataError

CLASS_COLUMNS = {"label", "labels", "class", "classes", "category", "target_class", "class_id", "label_id", "class_name"}
MOST_NUMBERED_CLASSES = 100
SEPARATOR = "|"
ZERO_ONE = {"0", "1"}
LABELS_OPTION = "--set 'data.label_columns=[NAME]'"


def read_labels(
    table: Table, labels: list[str], task: TaskName | None, wanted: tuple[str, ...], *, explicit: bool
) -> tuple[TaskName, tuple[str, ...], npt.NDArray[Any], str]:
    """Return the task, the class names, the targets and the sentence that says how they were found; raises ``DataError``.

    ``explicit`` columns were chosen by the user: they are never taken for something else than labels.
    """
    if not labels:
        raise DataError(f"{table.path.name} has no column of labels beside its images: {listed(map(repr, table.columns))}")
    if len(labels) > 1:
        return _indicators(table, labels, task, wanted, explicit)
    column, values = labels[0], table.values(labels[0])
    lists = any(SEPARATOR in value for value in values)
    if task == "multilabel" or (lists and task is None):
        return _lists(values, column, task, wanted)
    if empty := [row for row, value in enumerate(values) if not value]:
        raise DataError(f"{len(empty):,} rows of {table.path.name} have no {column!r}: {table.cells(column, empty)}; fill or remove them")
    numbers = [number(value) for value in values]
    wrong = [row for row, value in enumerate(numbers) if value is None]
    if task is None and wrong and len(wrong) < 0.2 * len(values) and len(set(values)) > MOST_NUMBERED_CLASSES:
        raise DataError(
            f"column {column!r} of {table.path.name} holds numbers except {table.cells(column, wrong)}; "
            "mend those for regression, or pass --task multiclass"
        )
    if task is None and not wrong:
        task, reason = _numeric_task(column, [value for value in numbers if value is not None])
    else:
        reason = "as given" if task else ""
    if task == "regression":
        if wrong:
            raise DataError(f"regression needs numbers, but {len(wrong):,} cells of {column!r} are none: {table.cells(column, wrong)}")
        return "regression", (column,), np.array(numbers, np.float64), f"task: regression, {reason}; --task changes it"
    if not wrong:
        values = [_class_name(value) for value in values]
    classes = order_classes(values, wanted)
    chosen, sentence = class_task(classes, task if reason == "as given" else None, f"column {column!r}")
    index = {name: position for position, name in enumerate(classes)}
    return chosen, classes, np.array([index[value] for value in values], np.int64), sentence


def _numeric_task(column: str, values: list[float]) -> tuple[TaskName | None, str]:
    distinct = set(values)
    whole = all(value == int(value) for value in distinct)
    if distinct <= {0.0, 1.0}:
        return "binary", ""
    if whole and column.lower() in CLASS_COLUMNS and len(distinct) <= MOST_NUMBERED_CLASSES:
        return "multiclass", ""
    return "regression", f"inferred from the numbers in column {column!r} ({min(values):g} to {max(values):g})"


def _class_name(text: str) -> str:
    """'1' and '1.0' are one class; whole numbers stay as written, so that '007' and twenty digits keep theirs."""
    value = float(text)
    return text if text.lstrip("+-").isdigit() or value != int(value) else str(int(value))


def _indicators(
    table: Table, labels: list[str], task: TaskName | None, wanted: tuple[str, ...], explicit: bool
) -> tuple[TaskName, tuple[str, ...], npt.NDArray[Any], str]:
    cells = {column: [_zero_one(value) for value in table.values(column)] for column in labels}
    wrong = {column: [row for row, value in enumerate(values) if value not in ZERO_ONE] for column, values in cells.items()}
    bad = [column for column, rows in wrong.items() if rows]
    if task not in (None, "multilabel"):
        raise DataError(f"{task} needs one label column but {table.path.name} gives {listed(map(repr, labels))}; pass {LABELS_OPTION}")
    if bad and (explicit or task == "multilabel" or len(bad) <= len(labels) // 2):
        shown = listed(f"{column!r} holds {table.cells(column, wrong[column][:2])}" for column in bad)
        raise DataError(f"label columns must hold 0 or 1, but {shown}; mend them, or choose the label columns with {LABELS_OPTION}")
    if bad:
        raise DataError(
            f"{table.path.name} has several columns that could be the label: {listed(map(repr, labels))}; "
            f"choose with {LABELS_OPTION} (several 0/1 columns for multilabel)"
        )
    classes = order_classes(labels, wanted) if wanted else tuple(labels)
    targets = np.array([[float(value) for value in cells[name]] for name in classes], np.float32).T
    sentence = f"task: multilabel, {'as given' if task else 'inferred'} from {len(labels)} columns of 0 and 1"
    return "multilabel", classes, np.ascontiguousarray(targets), sentence + ("" if task else "; --set data.label_columns changes it")


def _zero_one(value: str) -> str:
    return {"0.0": "0", "1.0": "1", "false": "0", "true": "1"}.get(value.lower(), value)


def _lists(
    values: list[str], column: str, task: TaskName | None, wanted: tuple[str, ...]
) -> tuple[TaskName, tuple[str, ...], npt.NDArray[Any], str]:
    sets = [{part.strip() for part in value.split(SEPARATOR) if part.strip()} for value in values]
    classes = order_classes({label for labels in sets for label in labels}, wanted)
    if len(classes) < 2:
        raise DataError(f"column {column!r} holds fewer than two labels ({listed(classes) or 'none'}); lists are written 'a|b|c'")
    position = {name: index for index, name in enumerate(classes)}
    targets = np.zeros((len(sets), len(classes)), np.float32)
    for row, labels in enumerate(sets):
        targets[row, [position[name] for name in labels]] = 1
    return "multilabel", classes, targets, f"task: multilabel, {'as given' if task else 'inferred'} from lists 'a|b' in column {column!r}"
