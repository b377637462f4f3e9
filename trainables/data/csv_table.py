"""The cells of a CSV, whatever its delimiter and encoding."""

import csv
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from trainables.data.samples import SHOWN, listed
from trainables.errors import DataError, did_you_mean


@dataclass(frozen=True)
class Table:
    """Named columns of text."""

    path: Path
    columns: tuple[str, ...]
    rows: list[list[str]]
    lines: list[int]  # of each row, 1-based

    def values(self, column: str) -> list[str]:
        """Return a column's cells."""
        position = self.columns.index(column)
        return [row[position] for row in self.rows]

    def check(self, column: str, option: str) -> str:
        """Return the column's name; raises ``DataError`` if the table has none such."""
        if column not in self.columns:
            raise DataError(f"{self.path.name} has no column {column!r} ({option}){did_you_mean(column, self.columns)}")
        return column

    def cells(self, column: str, wrong: Sequence[int]) -> str:
        """Return the cells of some rows with their lines."""
        values = self.values(column)
        return listed((f"{values[row]!r} (line {self.lines[row]})" for row in wrong[:SHOWN]), len(wrong))


def read_csv(path: Path, header: bool) -> Table:
    """Return a CSV's cells, stripped; without a header columns are named by their number. Raises ``DataError``."""
    try:
        data = path.read_bytes()
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("latin-1")
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from None
    if "\0" in text:
        raise DataError(f"{path} is not a table of text; give a folder of images or a CSV")
    first = text.split("\n", 1)[0]
    delimiter = max(",;\t", key=first.count)
    try:
        reader = csv.reader(text.splitlines(keepends=True), delimiter=delimiter, strict=True)
        numbered = [(reader.line_num, [cell.strip() for cell in row]) for row in reader if any(cell.strip() for cell in row)]
    except csv.Error as error:
        raise DataError(f"{path.name} is not a valid CSV: {error}") from None
    if not numbered:
        raise DataError(f"{path} is empty")
    columns = tuple(numbered[0][1]) if header else tuple(str(index) for index in range(len(numbered[0][1])))
    if twice := [name for name, times in Counter(columns).items() if times > 1]:
        raise DataError(f"{path.name} has several columns named {twice[0]!r}; if its first line is no header, pass --set data.header=false")
    body = numbered[1:] if header else numbered
    if not body:
        raise DataError(f"{path} lists no image")
    if wrong := [line for line, row in body if len(row) != len(columns)]:
        raise DataError(f"{path.name} has {len(columns)} columns, but not on lines {listed(wrong)}; quote cells that hold {delimiter!r}")
    return Table(path, columns, [row for _, row in body], [line for line, _ in body])
