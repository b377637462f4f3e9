"""The commands. Everything heavy is imported inside them, so that `--help` answers at once."""

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import Annotated, Any, NoReturn

os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")

import typer

from search.cli import cluster_commands
from search.cli.cluster_commands import Follow, dashboard_address, is_dashboard
from trainables.errors import ConfigError, InjertoError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)

BAD_INPUT, NOTHING_FINISHED, PAUSED = 2, 1, 130

Name = Annotated[str | None, typer.Argument(help="Study; the latest by default.", show_default=False)]
Storage = Annotated[
    str | None, typer.Option(help="Optuna storage URL; INJERTO_STORAGE, else a SQLite file of your own.", show_default=False)
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Events = Annotated[bool, typer.Option("--json", help="Print JSON, one event a line, and nothing else.")]
Address = Annotated[
    str | None, typer.Option(help="Cluster: host:port or auto to join it, http://HEAD:8265 to have it done there.", show_default=False)
]
Track = Annotated[
    list[str] | None, typer.Option(help="Record trials there, too: tensorboard, mlflow or wandb; can be repeated.", show_default=False)
]


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


@app.command()
def search(
    source: Annotated[
        str, typer.Argument(help="Images: a folder, a CSV, builtin:digits; or a YAML file of settings.", show_default=True)
    ] = "builtin:digits",
    trials: Annotated[
        int | None, typer.Option(help="Trials to run, the default recipe among them.  [default: 12]", show_default=False)
    ] = None,
    time_budget: Annotated[str | None, typer.Option(help="Wall clock, such as 30m or 2h.", show_default=False)] = None,
    gpu_hours: Annotated[float | None, typer.Option(help="Hours of GPU, summed over trials.", show_default=False)] = None,
    target: Annotated[float | None, typer.Option(help="Stop at this value of the metric.", show_default=False)] = None,
    no_improvement: Annotated[int | None, typer.Option(help="Stop after so many trials without a better one.", show_default=False)] = None,
    name: Annotated[str | None, typer.Option(help="Name of the study; a fresh one by default.", show_default=False)] = None,
    task: Annotated[
        str | None, typer.Option(help="regression, binary, multiclass or multilabel; inferred by default.", show_default=False)
    ] = None,
    metric: Annotated[str | None, typer.Option(help="Metric to go by; the task's own by default.", show_default=False)] = None,
    weights: Annotated[
        str | None, typer.Option(help="imagenet, builtin, none, or a .safetensors or .pth file.", show_default=False)
    ] = None,
    image_size: Annotated[int | None, typer.Option(help="Side of the images that the network sees, in pixels.", show_default=False)] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the search.", show_default=False)] = None,
    max_concurrent_trials: Annotated[
        int | None, typer.Option(help="Trials at a time; as many as fit by default.", show_default=False)
    ] = None,
    address: Annotated[
        str | None, typer.Option(help="Ray cluster to join, host:port or auto; a Ray of its own by default.", show_default=False)
    ] = None,
    storage: Storage = None,
    output: Annotated[Path | None, typer.Option(help="Folder for results.  [default: injerto-output]", show_default=False)] = None,
    root: Annotated[
        str | None,
        typer.Option(help="Where states and artifacts go: a folder or s3://bucket/prefix.  [default: under --output]", show_default=False),
    ] = None,
    strict: Annotated[bool | None, typer.Option("--strict", help="Refuse unreadable or contradicting images.", show_default=False)] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", help="Any key of the file, such as space.learning_rate.high=0.01.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the resolved settings and the space, and stop.")] = False,
    track: Track = None,
    as_json: Events = False,
) -> None:
    """Search: run trials, show them live, and hand over the best configuration and its weights."""
    config = _settings(**locals())
    if dry_run:
        from search.display.terminal import Terminal

        _dry_run(config, Terminal())
        return

    def run(watcher: Any) -> Any:
        from search.driver.launch import launch

        return launch(config, watcher)

    _watch(run, track, as_json)


def _with_settings_of(command: Callable[..., None]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command, which takes them as ``**given``, the options of another that say what is searched."""

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        own = [parameter for parameter in signature(function).parameters.values() if parameter.kind is not Parameter.VAR_KEYWORD]
        names = {"dry_run", "track", "as_json", *(parameter.name for parameter in own)}
        shared = [parameter for name, parameter in signature(command).parameters.items() if name not in names]
        function.__signature__ = Signature([*shared, *own])  # type: ignore[attr-defined]
        function.__annotations__ = {parameter.name: parameter.annotation for parameter in (*shared, *own)}
        return function

    return decorate


@app.command()
@_with_settings_of(search)
def plan(
    *,
    seconds: Annotated[float, typer.Option(min=1, help="How long to measure, in seconds.")] = 60,
    as_json: Json = False,
    **given: Any,
) -> None:
    """Measure for a minute, and say how long a search will take and what room it needs; refuse one that cannot work."""
    from rich.console import Console

    from search.display.terminal import Terminal
    from search.forecast.forecast_table import measuring, show
    from search.forecast.measurement import calibrate
    from search.plan import absolute, make_plan

    config = _settings(**given)
    console = Console(stderr=as_json, highlight=False)
    with Terminal(console) as terminal:
        made = make_plan(absolute(config), terminal.preparing)
    with measuring(console, seconds) as told:
        found = calibrate(made, seconds=seconds, told=told)
    _print_json(found.as_json()) if as_json else show(console, made, found)


@app.command()
@_with_settings_of(search)
def submit(*, address: cluster_commands.Dashboard = None, follow: Follow = False, **given: Any) -> None:
    """Search on a cluster: hand it the settings and the code, and leave it to it."""
    from search.remote import submit as send

    there = dashboard_address(address)
    cluster_commands.submitted(send(_settings(**given), there), there, follow=follow)


@app.command()
@_with_settings_of(search)
def doctor(**given: Any) -> None:
    """Look at every node before a search: versions, GPUs, disk, storage, data, weights, clocks; name what fails and the remedy."""
    if is_dashboard(given["address"]):
        from search.remote import submit as send

        cluster_commands.followed(send(_settings(**given | {"address": None}), given["address"], "doctor"), given["address"])
        return
    from search.display.terminal import Terminal
    from search.nodes.provision import look

    with Terminal() as terminal:
        look(_settings(**given), terminal)


def _settings(*, source: str, settings: list[str] | None, output: Path | None, **options: Any) -> Any:
    """Return the configuration that a command's options stand for."""
    from search.config import SHORTHANDS, read_config

    given = {option: value for option, value in options.items() if option in SHORTHANDS}
    return read_config(source, given | {"output": None if output is None else str(output)}, tuple(settings or ()))


def _dry_run(config: Any, watcher: Any) -> None:
    from search.plan import absolute, make_plan
    from trainables.config import to_yaml

    with watcher:
        plan = make_plan(absolute(config), watcher.preparing)
    facts = f"task: {plan.dataset.task}, metric: {plan.metric} ({plan.mode}), image_size: {plan.dataset.image_size}"
    space = [f"  {name}: {words}" for name, words in plan.space.in_words().items()]
    recipe = ["  " + line for line in to_yaml(plan.space.recipe).splitlines()]
    comments = [facts, *plan.dataset.notes, "what is searched:", *space, "the default recipe, trial 0:", *recipe]
    typer.echo(to_yaml(plan.config) + "\n".join(f"# {line}" for line in comments))


@app.command()
def resume(
    name: Annotated[str, typer.Argument(help="Study.", show_default=False)],
    address: Address = None,
    add_trials: Annotated[int, typer.Option(min=0, help="Trials beyond the budget; a finished search goes on, too.")] = 0,
    add_time: Annotated[str | None, typer.Option(help="Wall clock beyond the budget, such as 30m or 2h.", show_default=False)] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="Another budget, keep or resources, such as keep.disk=20GB.", show_default=False)
    ] = None,
    storage: Storage = None,
    track: Track = None,
    as_json: Events = False,
) -> None:
    """Go on with an interrupted search from its last epochs, or with a finished one on a larger budget."""
    from search.config import duration

    added = duration("--add-time", add_time)
    if is_dashboard(address):
        from search.config import SearchConfig, amended
        from search.remote import resume as go_on_there

        amended(SearchConfig(), tuple(settings or ()))  # what would be refused there would have been shown on Ray's job page
        options = ["--add-trials", str(add_trials), *(["--add-time", add_time] if add_time else [])]
        options += [word for setting in settings or () for word in ("--set", setting)]
        cluster_commands.submitted(go_on_there(name, str(address), options, storage=storage), str(address), follow=False)
        return
    settings = [*(settings or ()), *([f"resources.address={address}"] if address else [])]

    def run(watcher: Any) -> Any:
        from search.driver.launch import resume as go_on

        return go_on(name, storage, watcher, add_trials=add_trials, add_seconds=added, settings=tuple(settings or ()))

    _watch(run, track, as_json)


@app.command()
def stop(
    name: Name = None,
    finish: Annotated[bool, typer.Option("--finish", help="End it: open the test images, hand over the best finished trial.")] = False,
    address: Annotated[
        str | None, typer.Option(help="A search on a cluster: http://HEAD:8265, or auto for this machine's own.", show_default=False)
    ] = None,
    storage: Storage = None,
) -> None:
    """Pause a search that runs in another terminal or on another machine, or end it."""
    if address is not None:
        from search.remote import pause

        if name is None:
            raise ConfigError("on a cluster name the study to pause; injerto jobs lists them")
        cluster_commands.answered(*pause(name, dashboard_address(address), finish=finish, storage=storage))
        return
    from search.record.lease import request
    from search.record.store import load_study, open_storage, storage_errors

    with storage_errors(storage):
        study = load_study(open_storage(storage), name)
        typer.echo(f"{study.study_name}: {request(study, 'finish' if finish else 'pause')}")
    if not finish:
        typer.echo(f"go on with it: injerto resume {study.study_name}")


@app.command()
def best(name: Name = None, storage: Storage = None, as_json: Json = False) -> None:
    """Show the leaderboard and the best configuration in words."""
    from search.display.summary import leaderboard
    from search.record.records import read_study

    record = read_study(name, storage)
    found = record.best_json()
    _print_json(found) if as_json else leaderboard(record)


@app.command()
def status(
    name: Name = None,
    storage: Storage = None,
    watch: Annotated[bool, typer.Option("--watch", help="Keep showing it until the search no longer runs.")] = False,
    as_json: Json = False,
) -> None:
    """Show how a search is going: trials by state, the best so far, and why it ended."""
    if watch:
        from search.display.status_watch import follow

        follow(name, storage, as_json=as_json)
        return
    from search.display.summary import summary
    from search.record.records import read_study

    record = read_study(name, storage)
    _print_json(record.status_json()) if as_json else summary(record)


@app.command()
def train(
    recipe: Annotated[Path, typer.Argument(help="A best.yaml, or one of your own.", show_default=False)],
    to: Annotated[
        Path | None, typer.Option(help="Weights file to write.  [default: beside the recipe, -rerun.safetensors]", show_default=False)
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the weights file.")] = False,
) -> None:
    """Train one configuration again; on the same machine it gives the same weights, bit for bit, on the processor."""
    from search.rerun import rerun

    rerun(recipe, to or recipe.with_name(recipe.stem + "-rerun.safetensors"), force=force)


@app.command()
def dashboard(
    storage: Storage = None,
    port: Annotated[int, typer.Option(help="Port on this machine.")] = 8501,
    address: Annotated[str, typer.Option(help="Address to listen on; on any but this one people must log in.")] = "127.0.0.1",
    allow_actions: Annotated[bool, typer.Option("--allow-actions", help="Let viewers stop and steer searches, and add notes.")] = False,
    insecure: Annotated[bool, typer.Option("--insecure", help="Let anybody look who can reach the address.")] = False,
    refresh: Annotated[float, typer.Option(help="Seconds between two refreshes of what is live.")] = 2.0,
) -> None:
    """Look at the studies in the browser."""
    from dashboard.serve import serve
    from search.record.store import open_storage, resolve_url

    open_storage(storage)
    serve(resolve_url(storage), port, address, insecure=insecure, allow_actions=allow_actions, refresh=refresh)


@app.command()
def report(
    name: Name = None,
    to: Annotated[Path, typer.Option(help="HTML file to write.")] = Path("report.html"),
    storage: Storage = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file.")] = False,
) -> None:
    """Write one self-contained HTML file with a study's main figures, for a mail or a pull request."""
    from dashboard.report import write_report
    from search.record.records import read_study

    write_report(read_study(name, storage), to, force=force)
    typer.echo(f"{to} ({to.stat().st_size / 1e6:.1f} MB)")


app.command()(cluster_commands.jobs)
app.command()(cluster_commands.logs)
app.add_typer(cluster_commands.group, name="cluster")


def _watch(run: Callable[[Any], Any], track: list[str] | None, as_json: bool) -> None:
    """Run a search, show it, and exit with its code."""
    from search.trackers.tracker_thread import trackers
    from search.watcher import WatcherGroup

    with _output(as_json) as (shown, conclude):
        with WatcherGroup([shown, *trackers(track or (), shown.say)]) as watcher:
            record = run(watcher)
        conclude(record)
    if record.state == "interrupted":
        raise typer.Exit(PAUSED)
    if record.best is None:
        raise typer.Exit(NOTHING_FINISHED)


@contextmanager
def _output(as_json: bool) -> Iterator[tuple[Any, Callable[[Any], None]]]:
    """Give what shows a search, and what prints its end."""
    from search.display.json_lines import JsonLines, only_json
    from search.display.summary import conclusion
    from search.display.terminal import Terminal

    if not as_json:
        yield Terminal(), conclusion
        return
    with only_json() as stream:
        lines = JsonLines(stream)
        yield lines, lines.end


def _print_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))


def _stop(error: InjertoError) -> NoReturn:
    typer.echo(f"error: {error}", err=True)
    sys.exit(BAD_INPUT)


def main() -> None:
    """Run a command; an error that a user can act on is printed without a traceback, and the exit code is 2."""
    try:
        app()
    except InjertoError as error:
        _stop(error)
