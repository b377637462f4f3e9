"""Options that several commands share, as types for Typer, and the exit codes."""

import json
from typing import Annotated, Any

import typer

BAD_INPUT, NOTHING_FINISHED, PAUSED = 2, 1, 130
"""Exit codes: an error that the user can correct, a search without a finished trial, a search that was paused."""

Study = Annotated[str | None, typer.Argument(help="Study; the latest by default.", show_default=False)]
Storage = Annotated[
    str | None, typer.Option(help="Optuna storage URL; INJERTO_STORAGE, else a SQLite file of your own.", show_default=False)
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
JsonEvents = Annotated[bool, typer.Option("--json", help="Print JSON, one event a line, and nothing else.")]
Address = Annotated[
    str | None, typer.Option(help="Cluster: host:port or auto to join it, http://HEAD:8265 to run there as a job.", show_default=False)
]
DashboardAddress = Annotated[
    str | None,
    typer.Option(
        "--address",
        envvar="RAY_API_SERVER_ADDRESS",
        help="Ray's dashboard on the cluster's head, such as http://head:8265.",
        show_default=False,
    ),
]
Follow = Annotated[bool, typer.Option("--follow", help="Show its progress until it has ended.")]
Track = Annotated[
    list[str] | None, typer.Option(help="Record trials there, too: tensorboard, mlflow or wandb; can be repeated.", show_default=False)
]


def print_json(value: Any) -> None:
    """Print a value as indented JSON on standard output."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))
