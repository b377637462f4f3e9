"""`read_csv`, which reads a CSV file (comma, semicolon or tab; UTF-8 or Latin-1) into a `Table` of text."""

import csv
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from trainables.data.samples import LISTED, listed
from trainables.errors import DataError, did_you_mean


@dataclass(frozen=True)
class Table:
    """The cells of a CSV file as text."""

    path: Path
    columns: tuple[str, ...]
    rows: list[list[str]]  # one cell for each column; without the header
    lines: list[int]  # of each row, its (last) line in the file, 1-based

    def values(self, column: str) -> list[str]:
        """Return a column's cells, one for each row."""
        position = self.columns.index(column)
        return [row[position] for row in self.rows]

    def check(self, column: str, option: str) -> str:
        """Return `column`. Raises ``DataError`` if the table has no such column; the message names `option`, the setting that holds it."""
        if column not in self.columns:
            raise DataError(f"{self.path.name} has no column {column!r} ({option}){did_you_mean(column, self.columns)}")
        return column

    def cells(self, column: str, wrong: Sequence[int]) -> str:
        """Return, for a message, a column's cells with their line numbers. `wrong`: indices of the rows; the first eight are shown."""
        values = self.values(column)
        return listed((f"{values[row]!r} (line {self.lines[row]})" for row in wrong[:LISTED]), len(wrong))


def read_csv(path: Path, header: bool) -> Table:
    """Return the cells of a CSV file, without surrounding spaces and blank rows. Without `header` the columns are named '0', '1', ...

    Raises ``DataError`` if the file cannot be read, is no CSV, holds no row, has two columns of one name or rows of other lengths.
    """
    try:
        data = path.read_bytes()
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("latin-1")
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from None
    if "\0" in text:
        raise DataError(f"{path} is not a text table; give a folder of images or a CSV")
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
        what_to_do = "if its first line is not a header, pass --set data.header=false"
        raise DataError(f"{path.name} has several columns named {twice[0]!r}; {what_to_do}")
    body = numbered[1:] if header else numbered
    if not body:
        raise DataError(f"{path} lists no image")
    if wrong := [line for line, row in body if len(row) != len(columns)]:
        raise DataError(f"{path.name} has {len(columns)} columns, but not on lines {listed(wrong)}; quote cells that hold {delimiter!r}")
    return Table(path, columns, [row for _, row in body], [line for line, _ in body])
