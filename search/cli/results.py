"""The commands that read the record of a search: its state, its best configuration, the dashboard and the report."""

from pathlib import Path
from typing import Annotated

import typer

from search.cli.options import Json, Storage, Study, print_json


def best(name: Study = None, storage: Storage = None, as_json: Json = False) -> None:
    """Show the leaderboard and the best configuration in words."""
    from search.display.summary import print_leaderboard
    from search.record.reader import read_study

    record = read_study(name, storage)
    values = record.best_json()
    print_json(values) if as_json else print_leaderboard(record)


def status(
    name: Study = None,
    storage: Storage = None,
    watch: Annotated[bool, typer.Option("--watch", help="Keep showing it until the search no longer runs.")] = False,
    as_json: Json = False,
) -> None:
    """Show the state of a search: trials by state, the best so far, and why it ended."""
    if watch:
        from search.display.status_watch import watch_status

        watch_status(name, storage, as_json=as_json)
        return
    from search.display.summary import print_summary
    from search.record.reader import read_study

    record = read_study(name, storage)
    print_json(record.status_json()) if as_json else print_summary(record)


def train(
    recipe: Annotated[Path, typer.Argument(help="A best.yaml, or one of your own.", show_default=False)],
    to: Annotated[
        Path | None, typer.Option(help=r"Weights file to write.  \[default: beside the recipe, -rerun.safetensors]", show_default=False)
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the weights file.")] = False,
) -> None:
    """Train one configuration again; on the CPU of the same machine it gives the same weights, bit for bit."""
    from search.rerun import rerun

    rerun(recipe, to or recipe.with_name(recipe.stem + "-rerun.safetensors"), force=force)


def dashboard(
    storage: Storage = None,
    port: Annotated[int, typer.Option(help="Port on this machine.")] = 8501,
    address: Annotated[str, typer.Option(help="Address to listen on; on any other than this one users must log in.")] = "127.0.0.1",
    allow_actions: Annotated[bool, typer.Option("--allow-actions", help="Let viewers stop and steer searches, and add notes.")] = False,
    insecure: Annotated[bool, typer.Option("--insecure", help="Let everyone look who can reach the address, without a login.")] = False,
    refresh: Annotated[float, typer.Option(help="Seconds between two refreshes of a running search.")] = 2.0,
) -> None:
    """Look at the studies in the browser."""
    from dashboard.serve import serve
    from search.record.store import open_storage, resolve_url

    open_storage(storage)
    serve(resolve_url(storage), port, address, insecure=insecure, allow_actions=allow_actions, refresh=refresh)


def report(
    name: Study = None,
    to: Annotated[Path, typer.Option(help="HTML file to write.")] = Path("report.html"),
    storage: Storage = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file.")] = False,
) -> None:
    """Write one self-contained HTML file with a study's main figures, for a mail or a pull request."""
    from dashboard.report import write_report
    from search.record.reader import read_study

    write_report(read_study(name, storage), to, force=force)
    typer.echo(f"{to} ({to.stat().st_size / 1e6:.1f} MB)")
