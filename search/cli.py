"""The commands. Everything heavy is imported inside them, so that `--help` answers at once."""

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")

import typer

from trainables.errors import InjertoError

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
    target: Annotated[float | None, typer.Option(help="Stop at this value of the metric.", show_default=False)] = None,
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
    address: Annotated[str | None, typer.Option(help="Ray cluster to join; a Ray of its own by default.", show_default=False)] = None,
    storage: Storage = None,
    output: Annotated[Path | None, typer.Option(help="Folder for results.  [default: injerto-output]", show_default=False)] = None,
    strict: Annotated[bool | None, typer.Option("--strict", help="Refuse unreadable or contradicting images.", show_default=False)] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", help="Any key of the file, such as space.learning_rate.high=0.01.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the resolved settings and the space, and stop.")] = False,
) -> None:
    """Search: run trials, show them live, and hand over the best configuration and its weights."""
    from search.config import SHORTHANDS, read_config
    from search.watch import Terminal

    given = {option: value for option, value in locals().items() if option in SHORTHANDS}
    given["output"] = None if output is None else str(output)
    config = read_config(source, given, tuple(settings or ()))
    watcher = Terminal()
    if dry_run:
        _dry_run(config, watcher)
        return
    from search.launch import launch

    with watcher:
        record = launch(config, watcher)
    _conclude(record)


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
    add_trials: Annotated[int, typer.Option(min=0, help="Trials beyond the budget; a finished search goes on, too.")] = 0,
    add_time: Annotated[str | None, typer.Option(help="Wall clock beyond the budget, such as 30m or 2h.", show_default=False)] = None,
    storage: Storage = None,
) -> None:
    """Go on with an interrupted search from its last epochs, or with a finished one on a larger budget."""
    from search.config import duration
    from search.launch import resume as go_on
    from search.watch import Terminal

    watcher = Terminal()
    with watcher:
        record = go_on(name, storage, watcher, add_trials=add_trials, add_seconds=duration("--add-time", add_time))
    _conclude(record)


@app.command()
def stop(
    name: Name = None,
    finish: Annotated[bool, typer.Option("--finish", help="End it for good: open the test images and hand over the best so far.")] = False,
    storage: Storage = None,
) -> None:
    """Pause a search that runs in another terminal or on another machine, or end it."""
    from search.lease import request
    from search.store import load_study, open_storage, storage_errors

    with storage_errors(storage):
        study = load_study(open_storage(storage), name)
        typer.echo(f"{study.study_name}: {request(study, 'finish' if finish else 'pause')}")
    if not finish:
        typer.echo(f"go on with it: injerto resume {study.study_name}")


@app.command()
def best(name: Name = None, storage: Storage = None, as_json: Json = False) -> None:
    """Show the leaderboard and the best configuration in words."""
    from search.records import read_study
    from search.tell import leaderboard

    record = read_study(name, storage)
    found = record.best_json()
    _print_json(found) if as_json else leaderboard(record)


@app.command()
def status(name: Name = None, storage: Storage = None, as_json: Json = False) -> None:
    """Show how a search is going: trials by state, the best so far, and why it ended."""
    from search.records import read_study
    from search.tell import summary

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
) -> None:
    """Look at the studies in the browser."""
    from dashboard.serve import serve
    from search.store import open_storage, resolve_url

    open_storage(storage)
    serve(resolve_url(storage), port)


def _conclude(record: Any) -> None:
    from search.tell import conclusion

    conclusion(record)
    if record.state == "interrupted":
        raise typer.Exit(PAUSED)
    if record.best is None:
        raise typer.Exit(NOTHING_FINISHED)


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


if __name__ == "__main__":
    main()
