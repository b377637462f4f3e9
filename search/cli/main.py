"""The command line ``injerto``. Commands import heavy packages only when they run, so that ``--help`` is fast."""

import os
import sys
from typing import Annotated

os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")

import typer

from cluster.proxies import add_direct_hosts
from search.cli import cluster_commands, jobs, results, searching
from search.cli.options import BAD_INPUT
from trainables.errors import InjertoError

COMMANDS = (
    searching.search,
    searching.plan,
    searching.submit,
    searching.doctor,
    searching.resume,
    searching.stop,
    results.best,
    results.status,
    results.train,
    results.dashboard,
    results.report,
    jobs.jobs,
    jobs.logs,
)
"""The commands in the order of ``--help``; a command's name is its function's."""

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"injerto {version('injerto')}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    """Search for the best fine-tuned network that your images and your budget allow."""


for command in COMMANDS:
    app.command()(command)
app.add_typer(cluster_commands.group, name="cluster")


def main() -> None:
    """Run the command that the process was started with. Print an `InjertoError` without a traceback and exit with code 2."""
    add_direct_hosts()
    try:
        app()
    except InjertoError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(BAD_INPUT)
