"""The commands about clusters: jobs, their logs, a cluster of this machine's own, and the files that make one elsewhere."""

import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trainables.errors import ResourceError

if TYPE_CHECKING:
    from cluster.jobs import Job

FAILED, INTERRUPTED = 1, 130
WIDE = 160
"""Columns where there is no terminal that would have its own number."""
Dashboard = Annotated[
    str | None,
    typer.Option(
        "--address",
        envvar="RAY_API_SERVER_ADDRESS",
        help="Ray's dashboard on the cluster's head, such as http://head:8265.",
        show_default=False,
    ),
]
Follow = Annotated[bool, typer.Option("--follow", help="Show how it goes until it has ended.")]

group = typer.Typer(no_args_is_help=True, help="A cluster of this machine's own for trying, and the files that make one elsewhere.")


def jobs(
    address: Dashboard = None,
    everything: Annotated[bool, typer.Option("--all", help="Also what only asked something, such as stop.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List what has been run on a cluster, the latest first."""
    from cluster.jobs import SEARCHES, Jobs

    found = [job for job in Jobs(dashboard_address(address)).jobs() if everything or job.command in SEARCHES]
    if as_json:
        import json

        typer.echo(json.dumps([job.as_json() for job in found], indent=2, ensure_ascii=False))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from search.formatting import duration, one_line

    console = Console(highlight=False)
    drawn = Table(box=None, pad_edge=False)
    for column in ("study", "command", "state", "began", "lasted", "job"):
        drawn.add_column(column, no_wrap=True)
    for job in found:
        began = "" if job.began is None else f"{datetime.fromtimestamp(job.began):%Y-%m-%d %H:%M:%S}"
        cells = (
            job.study,
            job.command,
            "paused" if job.paused else job.state.lower(),
            began,
            "" if job.seconds is None else duration(job.seconds),
            job.id,
        )
        drawn.add_row(*(Text(one_line(cell)) for cell in cells))
    width = console.width if console.is_terminal else WIDE
    console.print(drawn if found else "no search of ours on this cluster yet; start one with: injerto submit", width=width)


def logs(
    name: Annotated[str, typer.Argument(help="Study, or a job's id.", show_default=False)],
    address: Dashboard = None,
    follow: Follow = False,
) -> None:
    """Print what a search on a cluster has said."""
    from cluster.jobs import Jobs

    there = dashboard_address(address)
    client = Jobs(there)
    job = client.find(name)
    if follow:
        followed(job, there)
    elif text := client.logs(job.id):
        typer.echo(text, nl=False)
    else:
        typer.echo(f"it has said nothing yet; job {job.id} is {job.state.lower()}", err=True)


def submitted(job: "Job", address: str, *, follow: bool) -> None:
    """Say where to watch a job once it has begun; where asked to, show it until it has ended. Exit with its code where it has failed."""
    from search.remote import begun

    if not follow:
        job, said = begun(job, address)
        if job.over:
            typer.echo(said, nl=False, err=job.failed)
            _leave(job)
    at = f"--address {address}"
    typer.echo(f"study {job.study} is with the cluster as job {job.id}; this machine may go")
    typer.echo(f"  watch:  injerto logs {job.study} --follow {at}")
    typer.echo(f"  list:   injerto jobs {at}")
    typer.echo(f"  pause:  injerto stop {job.study} {at}")
    typer.echo(f"  look:   {address.rstrip('/')}/#/jobs/{job.id}")
    if follow:
        followed(job, address)


def followed(job: "Job", address: str) -> None:
    """Show a job until it has ended, and exit with its code."""
    from search.remote import follow

    try:
        ended = follow(job, address, lambda text: typer.echo(text, nl=False))
    except KeyboardInterrupt:
        typer.echo(f"\nthe search goes on; watch it: injerto logs {job.study} --follow --address {address}", err=True)
        raise typer.Exit(INTERRUPTED) from None
    _leave(ended)


def _leave(ended: "Job") -> None:
    """Exit as a job did, where it did not end well."""
    if ended.failed or ended.paused:
        typer.echo(f"job {ended.id}: {ended.why}", err=True)
        raise typer.Exit(ended.code or FAILED)


def dashboard_address(address: str | None) -> str:
    """Return the address of a cluster's dashboard: the given one, else that of this machine's own cluster."""
    if address is not None and address != "auto":
        return address
    from cluster.local import running_cluster

    if (here := running_cluster()) is not None:
        return here.dashboard
    raise ResourceError(
        "which cluster? give --address http://HEAD:8265, set RAY_API_SERVER_ADDRESS, or start one: injerto cluster up --local 2"
    )


def is_dashboard(address: str | None) -> bool:
    """Say whether an address is a dashboard's, which takes jobs, and not a cluster's own, which drivers join."""
    return address is not None and address.startswith(("http://", "https://"))


@group.command("up")
def up(
    local: Annotated[int, typer.Option("--local", help="Nodes on this machine's loopback.", show_default=False)],
    cpus: Annotated[int | None, typer.Option(min=1, help="Processors of each; an even part by default.", show_default=False)] = None,
) -> None:
    """Start a real Ray of several nodes on this machine, for trying what a cluster does."""
    from cluster.local import up as start

    started = start(local, cpus=cpus)
    typer.echo(f"{started.nodes} nodes are up at {started.address}")
    typer.echo(f"  submit:  injerto submit study.yaml   (from elsewhere: --address {started.dashboard})")
    typer.echo(f"  attach:  injerto search photos/ --address auto   (or {started.address})")
    typer.echo("  end it:  injerto cluster down")


@group.command("down")
def down() -> None:
    """End the cluster that `up` has started."""
    from cluster.local import down as end

    ended = end()
    typer.echo("no local cluster is up" if ended is None else f"the cluster of {ended.nodes} nodes at {ended.address} is down")


@group.command("render")
def render(
    kind: Annotated[str, typer.Argument(help="kuberay, slurm or onprem.", show_default=False)],
    config: Annotated[Path, typer.Argument(help="What the cluster is to be.", show_default=True)] = Path("cluster.yaml"),
    to: Annotated[Path, typer.Option(help="Folder for the files.")] = Path("."),
    force: Annotated[bool, typer.Option("--force", help="Overwrite files.")] = False,
    print_only: Annotated[bool, typer.Option("--print", help="Print them instead.")] = False,
) -> None:
    """Write the files that make a cluster elsewhere: KubeRay's resources, a Slurm script, or machines reached by ssh."""
    from cluster.render.files import read, write
    from cluster.render.files import render as draw

    if print_only:
        typer.echo("\n".join(f"# {name}\n{text}" for name, text in draw(kind, read(config)).items()))
        return
    for path in write(kind, read(config), to, force=force):
        typer.echo(str(path))


def answered(well: bool, text: str) -> None:
    """Print what a command on the cluster has answered, and exit as it did."""
    typer.echo(text, err=not well)
    if not well:
        sys.exit(2)
