"""The commands about jobs on a cluster, and functions for other commands that run as jobs there."""

import sys
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from search.cli.options import BAD_INPUT, DashboardAddress, Follow, print_json
from trainables.errors import ResourceError

if TYPE_CHECKING:
    from cluster.jobs import Job

FAILED, INTERRUPTED = 1, 130
"""Exit codes: a job that failed without a code of its own, and Ctrl-C while a job is shown."""
WIDTH = 160
"""Columns of a table that is not printed to a terminal."""


def jobs(
    address: DashboardAddress = None,
    everything: Annotated[bool, typer.Option("--all", help="Also list short commands, such as stop.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List what has run on a cluster, the latest first."""
    from cluster.jobs import SEARCHES, Jobs

    listed = [job for job in Jobs(dashboard_address(address)).jobs() if everything or job.command in SEARCHES]
    if as_json:
        print_json([job.as_json() for job in listed])
    else:
        _print_jobs(listed)


def logs(
    name: Annotated[str, typer.Argument(help="Study, or a job's id.", show_default=False)],
    address: DashboardAddress = None,
    follow: Follow = False,
) -> None:
    """Print the output of a search on a cluster."""
    from cluster.jobs import Jobs

    cluster = dashboard_address(address)
    client = Jobs(cluster)
    job = client.find(name)
    if follow:
        watch_until_end(job, cluster)
    elif text := client.logs(job.id):
        typer.echo(text, nl=False)
    else:
        typer.echo(f"it has printed nothing yet; job {job.id} is {job.state.lower()}", err=True)


def print_submitted(job: "Job", address: str, *, follow: bool) -> None:
    """Print how to watch, list and pause a job; exit with its code if it has failed or was paused.

    Without `follow`, first wait for the job's first output, to see whether it fails at once. With `follow`, show the job until it has
    ended. `address` is that of the dashboard.
    """
    from search.remote import wait_for_output

    if not follow:
        job, output = wait_for_output(job, address)
        if job.has_ended:
            typer.echo(output, nl=False, err=job.failed)
            _exit_if_unsuccessful(job)
    at = f"--address {address}"
    typer.echo(f"study {job.study} runs on the cluster as job {job.id}; this machine may be switched off")
    typer.echo(f"  watch:  injerto logs {job.study} --follow {at}")
    typer.echo(f"  list:   injerto jobs {at}")
    typer.echo(f"  pause:  injerto stop {job.study} {at}")
    typer.echo(f"  look:   {address.rstrip('/')}/#/jobs/{job.id}")
    if follow:
        watch_until_end(job, address)


def watch_until_end(job: "Job", address: str) -> None:
    """Show a job until it has ended, and exit with its code if it has failed or was paused.

    Ctrl-C ends the watch with exit code 130; the job goes on.
    """
    from search.remote import watch_job

    try:
        ended = watch_job(job, address, lambda text: typer.echo(text, nl=False))
    except KeyboardInterrupt:
        typer.echo(f"\nthe search goes on; watch it: injerto logs {job.study} --follow --address {address}", err=True)
        raise typer.Exit(INTERRUPTED) from None
    _exit_if_unsuccessful(ended)


def print_answer(succeeded: bool, text: str) -> None:
    """Print the output of a command on the cluster; exit with code 2 if it did not succeed."""
    typer.echo(text, err=not succeeded)
    if not succeeded:
        sys.exit(BAD_INPUT)


def dashboard_address(address: str | None) -> str:
    """Return the address of a cluster's dashboard: the given one; for None or ``auto`` that of the local cluster that `up` started.

    Raises ``ResourceError`` if there is no local cluster.
    """
    if address is not None and address != "auto":
        return address
    from cluster.local import running_cluster

    if (local := running_cluster()) is not None:
        return local.dashboard
    raise ResourceError(
        "which cluster? give --address http://HEAD:8265, set RAY_API_SERVER_ADDRESS, or start one: injerto cluster up --local 2"
    )


def is_dashboard(address: str) -> bool:
    """Return whether an address is the URL of a dashboard, which takes jobs, and not host:port of a Ray head, which drivers join."""
    return address.startswith(("http://", "https://"))


def _print_jobs(listed: "list[Job]") -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from search.formatting import duration, one_line

    console = Console(highlight=False)
    table = Table(box=None, pad_edge=False)
    for column in ("study", "command", "state", "began", "lasted", "job"):
        table.add_column(column, no_wrap=True)
    for job in listed:
        cells = (
            job.study,
            job.command,
            "paused" if job.paused else job.state.lower(),
            "" if job.began is None else f"{datetime.fromtimestamp(job.began):%Y-%m-%d %H:%M:%S}",
            "" if job.seconds is None else duration(job.seconds),
            job.id,
        )
        table.add_row(*(Text(one_line(cell)) for cell in cells))
    width = console.width if console.is_terminal else WIDTH
    console.print(table if listed else "no search of ours on this cluster yet; start one with: injerto submit", width=width)


def _exit_if_unsuccessful(job: "Job") -> None:
    """If a job failed or was paused, print why and exit with its code, 1 if it has none."""
    if job.failed or job.paused:
        typer.echo(f"job {job.id}: {job.why}", err=True)
        raise typer.Exit(job.code or FAILED)
