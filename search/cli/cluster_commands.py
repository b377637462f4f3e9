"""The commands ``injerto cluster …``: a cluster on this machine, and the files that create one elsewhere."""

from pathlib import Path
from typing import Annotated

import typer

group = typer.Typer(no_args_is_help=True, help="A cluster on this machine for trying, and the files that create one elsewhere.")


@group.command("up")
def up(
    local: Annotated[int, typer.Option("--local", help="Nodes on this machine's loopback.", show_default=False)],
    cpus: Annotated[int | None, typer.Option(min=1, help="CPUs of each; an equal share by default.", show_default=False)] = None,
) -> None:
    """Start a real Ray cluster of several nodes on this machine, to try what a cluster does."""
    from cluster.local import up as start

    started = start(local, cpus=cpus)
    typer.echo(f"{started.nodes} nodes are up at {started.address}")
    typer.echo(f"  submit:  injerto submit study.yaml   (from elsewhere: --address {started.dashboard})")
    typer.echo(f"  attach:  injerto search photos/ --address auto   (or {started.address})")
    typer.echo("  end it:  injerto cluster down")


@group.command("down")
def down() -> None:
    """Stop the cluster that `up` has started."""
    from cluster.local import down as stop

    stopped = stop()
    typer.echo("no local cluster is up" if stopped is None else f"the cluster of {stopped.nodes} nodes at {stopped.address} is down")


@group.command("render")
def render(
    kind: Annotated[str, typer.Argument(help="kuberay, slurm or onprem.", show_default=False)],
    config: Annotated[Path, typer.Argument(help="The description of the cluster.", show_default=True)] = Path("cluster.yaml"),
    to: Annotated[Path, typer.Option(help="Folder for the files.")] = Path("."),
    force: Annotated[bool, typer.Option("--force", help="Overwrite files.")] = False,
    print_only: Annotated[bool, typer.Option("--print", help="Print them instead.")] = False,
) -> None:
    """Write the files that create a cluster elsewhere: KubeRay's resources, a Slurm script, or machines reached by ssh."""
    from cluster.render import files

    if print_only:
        typer.echo("\n".join(f"# {name}\n{text}" for name, text in files.render(kind, files.read(config)).items()))
        return
    for path in files.write(kind, files.read(config), to, force=force):
        typer.echo(str(path))
