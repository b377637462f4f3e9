"""How the benchmarks print their figures and write them as JSON."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

JsonFile = Annotated[Path | None, typer.Option("--json", help="file to write the figures to")]


def report_json(figures: Mapping[str, Any], json_file: Path | None) -> None:
    """Print the figures as JSON, and write them to a file if one is given."""
    text = json.dumps(figures, indent=2)
    print(text)
    if json_file is not None:
        json_file.write_text(text)


def report_table(title: str, rows: Mapping[str, Mapping[str, float]], figures: Mapping[str, Any], json_file: Path | None) -> None:
    """Print a table with a line for each row, and write the figures to a file if one is given; a value that a row lacks is nan."""
    columns = list(dict.fromkeys(column for row in rows.values() for column in row))
    table = Table(title=title, title_justify="left", box=None)
    for column in ("", *columns):
        table.add_column(column.replace("_", " "), justify="right")
    for name, row in rows.items():
        table.add_row(escape(name), *(f"{row.get(column, float('nan')):g}" for column in columns))
    Console().print(table)
    if json_file is not None:
        json_file.write_text(json.dumps(figures, indent=2))
