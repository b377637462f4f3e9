"""`read_labels`, which turns the label columns of a CSV into targets and infers the task from their cells."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from trainables.config import TaskName
from trainables.data.classes import CHANGE, number, order_classes, read_classes
from trainables.data.csv_table import Table
from trainables.data.numeric_labels import MOST_NUMBERED_CLASSES, read_numbers
from trainables.data.samples import listed
from trainables.data.source_options import SourceOptions
from trainables.errors import DataError

MOST_BAD_NUMBERS = 0.2  # share of a column's cells up to which it counts as numbers with a few mistakes
SEPARATOR = "|"
ZERO_ONE = {"0", "1"}
LABELS_OPTION = "--set 'data.label_columns=[NAME]'"


class Labels(NamedTuple):
    """The labels of a table's N rows as targets; K classes or labels."""

    task: TaskName
    classes: tuple[str, ...]  # class or label names; for regression the target's name
    targets: npt.NDArray[Any]  # (N,) int64 binary, multiclass; (N, K) float32 multilabel; (N,) float64 regression
    note: str  # for the user: the task, and why


def read_labels(table: Table, columns: list[str], options: SourceOptions) -> Labels:
    """Return the labels in `columns`. One column holds a class, a number, or a list 'a|b|c'; several columns hold 0 and 1.

    The task is `options.task`, or is inferred from the cells. Raises ``DataError`` if `columns` is empty, and for cells that do not fit
    the task.
    """
    if not columns:
        raise DataError(f"{table.path.name} has no column of labels beside its images: {listed(map(repr, table.columns))}")
    if len(columns) > 1:
        return _read_indicators(table, columns, options)
    values = table.values(columns[0])
    if options.task == "multilabel" or (options.task is None and any(SEPARATOR in value for value in values)):
        return _read_lists(values, columns[0], options)
    return _read_column(table, columns[0], options)


def _read_column(table: Table, column: str, options: SourceOptions) -> Labels:
    """Return the labels of a column with one class or one number a row: binary, multiclass or regression.

    Raises ``DataError`` for empty cells, for a few other cells among numbers, and as `read_classes` does.
    """
    values = table.values(column)
    if empty := [row for row, value in enumerate(values) if not value]:
        raise DataError(f"{len(empty):,} rows of {table.path.name} have no {column!r}: {table.cells(column, empty)}; fill or remove them")
    numbers = [number(value) for value in values]
    bad = [row for row, value in enumerate(numbers) if value is None]
    if options.task is None and bad and len(bad) < MOST_BAD_NUMBERS * len(values) and len(set(values)) > MOST_NUMBERED_CLASSES:
        raise DataError(
            f"column {column!r} of {table.path.name} holds numbers except {table.cells(column, bad)}; "
            "correct those for regression, or pass --task multiclass"
        )
    task, reason = options.task, "as given" if options.task else CHANGE
    if task is None and not bad and not options.classes and options.positive is None:
        is_classes, reason = read_numbers(column, [value for value in numbers if value is not None])
        task = None if is_classes else "regression"
    if task == "regression":
        if bad:
            raise DataError(
                f"regression needs numbers, but {len(bad):,} cells of {column!r} hold something else: {table.cells(column, bad)}"
            )
        return Labels("regression", (column,), np.array(numbers, np.float64), f"task: regression, {reason}")
    if not bad:
        values = [_class_name(value) for value in values]
    chosen, classes, note = read_classes(values, options, f"column {column!r}", reason)
    index = {name: position for position, name in enumerate(classes)}
    return Labels(chosen, classes, np.array([index[value] for value in values], np.int64), note)


def _class_name(text: str) -> str:
    """Return the class name of a cell that holds a number: '1' for '1.0', so that both are one class; else the text as written.

    Digits alone are never converted, because '007' and numbers of twenty digits would change.
    """
    value = float(text)
    return text if text.lstrip("+-").isdigit() or value != int(value) else str(int(value))


def _read_indicators(table: Table, columns: list[str], options: SourceOptions) -> Labels:
    """Return the multilabel targets of columns of 0 and 1 (or true and false), one column a label.

    Raises ``DataError`` for another task and for other cells.
    """
    task = options.task
    cells = {column: [_zero_one(value) for value in table.values(column)] for column in columns}
    wrong = {column: [row for row, value in enumerate(values) if value not in ZERO_ONE] for column, values in cells.items()}
    bad = [column for column, rows in wrong.items() if rows]
    if task not in (None, "multilabel"):
        raise DataError(f"{task} needs one label column but {table.path.name} gives {listed(map(repr, columns))}; pass {LABELS_OPTION}")
    if bad and (options.label_columns or task == "multilabel" or len(bad) <= len(columns) // 2):
        examples = listed(f"{column!r} holds {table.cells(column, wrong[column][:2])}" for column in bad)
        raise DataError(f"label columns must hold 0 or 1, but {examples}; correct them, or choose the label columns with {LABELS_OPTION}")
    if bad:
        raise DataError(
            f"{table.path.name} has several columns that could be the label: {listed(map(repr, columns))}; "
            f"choose with {LABELS_OPTION} (several 0/1 columns for multilabel)"
        )
    classes = order_classes(columns, options.classes) if options.classes else tuple(columns)
    targets = np.array([[float(value) for value in cells[name]] for name in classes], np.float32).T
    note = f"task: multilabel, {'as given' if task else 'inferred'} from {len(columns)} columns of 0 and 1"
    return Labels("multilabel", classes, np.ascontiguousarray(targets), note + ("" if task else "; --set data.label_columns changes it"))


def _zero_one(value: str) -> str:
    return {"0.0": "0", "1.0": "1", "false": "0", "true": "1"}.get(value.lower(), value)


def _read_lists(values: list[str], column: str, options: SourceOptions) -> Labels:
    """Return the multilabel targets of cells such as 'a|b|c'; an empty cell has no label.

    Raises ``DataError`` for fewer than two labels.
    """
    sets = [{part.strip() for part in value.split(SEPARATOR) if part.strip()} for value in values]
    classes = order_classes({label for labels in sets for label in labels}, options.classes)
    if len(classes) < 2:
        raise DataError(f"column {column!r} holds fewer than two labels ({listed(classes) or 'none'}); lists are written 'a|b|c'")
    position = {name: index for index, name in enumerate(classes)}
    targets = np.zeros((len(sets), len(classes)), np.float32)
    for row, labels in enumerate(sets):
        targets[row, [position[name] for name in labels]] = 1
    how = "as given" if options.task else "inferred"
    return Labels("multilabel", classes, targets, f"task: multilabel, {how} from lists 'a|b' in column {column!r}")
