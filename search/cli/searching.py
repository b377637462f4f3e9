"""The commands that prepare, run, resume and stop a search."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from search.cli.jobs import dashboard_address, is_dashboard, print_answer, print_submitted, watch_until_end
from search.cli.options import (
    NOTHING_FINISHED,
    PAUSED,
    Address,
    DashboardAddress,
    Follow,
    Json,
    JsonEvents,
    Storage,
    Study,
    Track,
    print_json,
)
from search.cli.settings_options import takes_settings
from search.config import SearchConfig
from trainables.errors import ConfigError

if TYPE_CHECKING:
    from search.record.records import StudyRecord
    from search.watcher import Watcher


@takes_settings
def search(
    config: SearchConfig,
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the resolved settings and the space, and stop.")] = False,
    track: Track = None,
    as_json: JsonEvents = False,
) -> None:
    """Search: run trials, show them live, and hand over the best configuration and its weights."""
    if dry_run:
        _print_plan(config)
        return

    def run(watcher: "Watcher") -> "StudyRecord":
        from search.driver.launch import launch

        return launch(config, watcher)

    _run_shown(run, track, as_json)


@takes_settings
def plan(
    config: SearchConfig,
    *,
    seconds: Annotated[float, typer.Option(min=1, help="How long to measure, in seconds.")] = 60,
    as_json: Json = False,
) -> None:
    """Measure for a minute, and predict how long a search will take and what room it needs; refuse one that cannot work."""
    from rich.console import Console

    from search.display.terminal import Terminal
    from search.forecast.forecast_table import measurement_progress, print_forecast
    from search.forecast.measurement import measure_plan
    from search.paths import resolve_paths
    from search.plan import make_plan

    console = Console(stderr=as_json, highlight=False)
    with Terminal(console) as terminal:
        prepared = make_plan(resolve_paths(config), terminal.preparing)
    with measurement_progress(console, seconds) as on_measurement:
        forecast = measure_plan(prepared, seconds=seconds, on_measurement=on_measurement)
    print_json(forecast.as_json()) if as_json else print_forecast(console, prepared, forecast)


@takes_settings
def submit(config: SearchConfig, *, address: DashboardAddress = None, follow: Follow = False) -> None:
    """Search on a cluster: send it the settings and the code; the search then runs without this machine."""
    from search import remote

    cluster = dashboard_address(address)
    print_submitted(remote.submit(config, cluster), cluster, follow=follow)


@takes_settings
def doctor(config: SearchConfig) -> None:
    """Check every node before a search: versions, GPUs, disk, storage, data, weights, clocks; name each fault and its remedy."""
    address = config.resources.address
    if address is not None and is_dashboard(address):
        from search import remote

        watch_until_end(remote.submit(config, address, "doctor"), address)
        return
    from search.display.terminal import Terminal
    from search.nodes.provision import check_nodes

    with Terminal() as terminal:
        check_nodes(config, terminal)


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
    as_json: JsonEvents = False,
) -> None:
    """Resume an interrupted search from its last epochs, or a finished one with a larger budget."""
    from search.config_reader import change_settings
    from search.durations import parse_duration

    added_seconds = parse_duration("--add-time", add_time)
    if address is not None and is_dashboard(address):
        from search import remote

        change_settings(SearchConfig(), tuple(settings or ()))  # refuses here what Ray's job page would show and the cluster refuse
        options = ["--add-trials", str(add_trials), *(["--add-time", add_time] if add_time else [])]
        options += [word for setting in settings or () for word in ("--set", setting)]
        print_submitted(remote.resume(name, address, options, storage=storage), address, follow=False)
        return
    changes = (*(settings or ()), *([f"resources.address={address}"] if address else ()))

    def run(watcher: "Watcher") -> "StudyRecord":
        from search.driver import launch

        return launch.resume(name, storage, watcher, add_trials=add_trials, add_seconds=added_seconds, settings=changes)

    _run_shown(run, track, as_json)


def stop(
    name: Study = None,
    finish: Annotated[bool, typer.Option("--finish", help="End it: evaluate the test images, hand over the best finished trial.")] = False,
    address: Annotated[
        str | None, typer.Option(help="A search on a cluster: http://HEAD:8265, or auto for this machine's own.", show_default=False)
    ] = None,
    storage: Storage = None,
) -> None:
    """Pause a search that runs in another terminal or on another machine, or end it."""
    if address is not None:
        from search import remote

        if name is None:
            raise ConfigError("on a cluster name the study to pause; injerto jobs lists them")
        print_answer(*remote.pause(name, dashboard_address(address), finish=finish, storage=storage))
        return
    from search.record.lease import request
    from search.record.store import load_study, open_storage, storage_errors

    with storage_errors(storage):
        study = load_study(open_storage(storage), name)
        typer.echo(f"{study.study_name}: {request(study, 'finish' if finish else 'pause')}")
    if not finish:
        typer.echo(f"go on with it: injerto resume {study.study_name}")


def _print_plan(config: SearchConfig) -> None:
    """Print the resolved settings as YAML, with the data's facts, the space and the default recipe as comments."""
    from search.display.terminal import Terminal
    from search.paths import resolve_paths
    from search.plan import make_plan
    from trainables.config import to_yaml

    with Terminal() as terminal:
        prepared = make_plan(resolve_paths(config), terminal.preparing)
    data, space = prepared.dataset, prepared.space
    comments = [
        f"task: {data.task}, metric: {prepared.metric} ({prepared.mode}), image_size: {', '.join(map(str, prepared.image_sizes))}",
        *data.notes,
        "what is searched:",
        *(f"  {name}: {text}" for name, text in space.describe().items()),
        "the default recipe, trial 0:",
        *(f"  {line}" for line in to_yaml(space.recipe).splitlines()),
    ]
    typer.echo(to_yaml(prepared.config) + "\n".join(f"# {line}" for line in comments))


def _run_shown(run: Callable[["Watcher"], "StudyRecord"], track: list[str] | None, as_json: bool) -> None:
    """Call `run` with the watchers that show and track a search, then print the result of the record that it returns.

    `track` names the trackers. Exit with code 130 if the search was paused, 1 if no trial has finished.
    """
    from search.trackers.registry import tracker_threads
    from search.watcher import WatcherGroup

    with _output(as_json) as (display, print_end):
        with WatcherGroup([display, *tracker_threads(track or (), display.say)]) as watcher:
            record = run(watcher)
        print_end(record)
    if record.state == "interrupted":
        raise typer.Exit(PAUSED)
    if record.best is None:
        raise typer.Exit(NOTHING_FINISHED)


@contextmanager
def _output(as_json: bool) -> Iterator[tuple[Any, Callable[["StudyRecord"], None]]]:
    """Yield the watcher that shows a search and the function that prints its result: as JSON lines, else for a terminal."""
    from search.display.json_lines import JsonLines, only_json
    from search.display.summary import print_conclusion
    from search.display.terminal import Terminal

    if not as_json:
        yield Terminal(), print_conclusion
        return
    with only_json() as stream:
        lines = JsonLines(stream)
        yield lines, lines.end
