"""Prints the state and the result of a study: summary, leaderboard, best configuration, test result."""

from collections.abc import Mapping
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from search.formatting import brief_configuration, one_line
from search.record.records import StudyRecord, TrialRecord
from trainables.config import TrialConfig
from trainables.objectives import is_better

LEADERS = 5
AUGMENTATION = ((0.0, "none"), (0.3, "light"), (0.6, "medium"), (1.0, "strong"))
"""Highest augmentation strength → its word."""
OTHER_FIELDS = (
    *("folds", "loss", "target", "class_balance", "mixup", "cutmix", "ema", "l2_sp"),
    *("reinit_stages", "aspect", "evaluation_size", "flip_average", "views", "accumulation"),
)
"""Fields that a described configuration names where they are not the default."""


def console() -> Console:
    """Return a new Rich console on the present ``sys.stdout``, which `only_json` and tests replace."""
    return Console(highlight=False)


def describe_configuration(config: Mapping[str, Any]) -> list[str]:
    """Return a trial's configuration as lines for a user: network, head, optimization, augmentation, and other fields that are not default.

    `config` has all fields of `TrialConfig`.
    """
    trial = SimpleNamespace(**config)
    stages = _describe_stages(trial)
    plural = "s" * (trial.head_layers > 1)
    hidden = f"{trial.head_layers} hidden layer{plural} of {trial.head_units} neurons ({trial.activation})"
    listed = config.get("head")  # records of earlier versions have none
    head = ", ".join(listed) if listed else hidden if trial.head_layers else "one linear layer"
    dropout = "" if listed else f", dropout {trial.dropout:.2g}"
    momentum = f" with momentum {trial.momentum:g}" if trial.optimizer != "adamw" else ""
    smoothing = f", label smoothing {trial.label_smoothing:g}" if trial.label_smoothing else ""
    amount = next((word for limit, word in AUGMENTATION if trial.augmentation_strength <= limit), AUGMENTATION[-1][1])
    ops = ": " + ", ".join(trial.augmentation_ops) if trial.augmentation_strength else ""
    others = [
        name if value is True else f"{name} {value}"
        for name in OTHER_FIELDS
        if (value := config.get(name)) not in (None, TrialConfig.model_fields[name].default)
    ]
    weights = "without pretrained weights" if trial.weights == "none" else f"with {trial.weights} weights"
    return [
        f"Backbone: {trial.backbone} {weights}, images of {trial.image_size} px; {stages}.",
        f"Head: {head}, weights from {trial.initializer}{dropout}{smoothing}.",
        f"Optimizer: {trial.optimizer}{momentum}, learning rate {trial.learning_rate:.3g} ({trial.schedule}, warm-up {trial.warmup:.0%}), "
        f"weight decay {trial.weight_decay:.2g}, batch size {trial.batch_size}, epochs {trial.epochs}.",
        f"Augmentation: {amount} (strength {trial.augmentation_strength:g}{ops}).",
        *([f"Other settings: {', '.join(others)}."] if others else []),
    ]


def _describe_stages(trial: SimpleNamespace) -> str:
    """Return which stages of the body train, at which rate and from when on."""
    if not trial.unfrozen_stages:
        return "all stages stay frozen"
    trained = f"the last {trial.unfrozen_stages} stages train" if trial.unfrozen_stages > 1 else "the last stage trains"
    rate = f"each at {trial.stage_lr_decay:.2g} times the learning rate of the part after it" if trial.stage_lr_decay < 1 else ""
    begin = f"from {trial.freeze_steps:.0%} of the steps on" if trial.freeze_steps else ""
    return ", ".join(part for part in (trained, rate, begin) if part)


def print_summary(record: StudyRecord) -> None:
    """Print a study's state, its counts of trials, time, best value, test result and failures in a few lines on standard output."""
    out = console()
    why = f": {record.why}" if record.why else ""
    out.print(f"[bold]{escape(record.name)}[/] {record.state}{escape(one_line(why))}")
    out.print("trials: " + ", ".join(f"{count} {state}" for state, count in record.counts.items() if count))
    out.print(f"epochs: {sum(trial.epochs_done for trial in record.trials)}, time: {timedelta(seconds=round(record.seconds))}")
    if record.best is not None and record.best.value is not None:
        unfinished = f", {record.best.unfinished}; no trial has finished" if record.best.unfinished else ""
        out.print(f"best validation {record.metric}: {record.best.value:.4g} (trial {record.best.number}{unfinished})", soft_wrap=True)
    if sentence := describe_test_result(record):
        out.print(escape(sentence), soft_wrap=True)
    print_failures(record)
    if record.state == "interrupted":
        out.print(f"go on with it: injerto resume {record.name}", soft_wrap=True)


def describe_test_result(record: StudyRecord) -> str:
    """Return sentences that compare winner, default recipe and refit on the test images; empty while these are not evaluated."""
    compared = _compare_with_default(record)
    refit = record.test.get("refit", {}).get("test", {}).get(record.metric)
    if not compared or refit is None:
        return compared
    return f"{compared} The exported network, which was trained on the validation images too, has {refit:.4g}."


def _compare_with_default(record: StudyRecord) -> str:
    winner, default = (record.test.get(role, {}).get("test", {}).get(record.metric) for role in ("winner", "default_recipe"))
    if winner is None:
        return ""
    best = record.best
    images = f"On the {record.dataset['images']['test']:,} test images, which no trial has seen,"
    if record.test["winner"].get("trial") == 0:
        return f"{images} the default recipe, which no other trial has beaten, has {record.metric} {winner:.4g}."
    if best is not None and best.unfinished:
        against = "" if default is None else f", the default recipe {default:.4g}; they ended before their last epochs"
        return f"{images} the best trial, {best.unfinished}, has {record.metric} {winner:.4g}{against}."
    if default is None:
        return f"{images} the winner has {record.metric} {winner:.4g}."
    if is_better(winner, default, record.mode):
        return f"{images} the winner has {record.metric} {winner:.4g}, the default recipe {default:.4g}."
    return (
        f"{images} the winner is no better than the default recipe ({record.metric} {winner:.4g} against {default:.4g}): "
        "its gain on the validation images may be due to chance."
    )


def print_failures(record: StudyRecord) -> None:
    """Print each different failure (its kind and message) once, with the numbers of its trials; nothing if no trial failed."""
    trials_by_failure: dict[str, list[TrialRecord]] = {}
    for trial in record.trials:
        if trial.error:
            trials_by_failure.setdefault(f"{trial.error['kind']}: {trial.error['message']}", []).append(trial)
    for failure, trials in trials_by_failure.items():
        numbers = ", ".join(str(trial.number) for trial in trials[:8]) + (f" and {len(trials) - 8} more" if len(trials) > 8 else "")
        console().print(f"[red]failed[/] {escape(one_line(failure))} (trial {numbers})", soft_wrap=True)


def print_leaderboard(record: StudyRecord) -> None:
    """Print the `LEADERS` best trials and the default recipe, then the best configuration in sentences, then the test result.

    Prints nothing if no trial has finished or was stopped.
    """
    out, best = console(), record.best
    if best is None:
        return
    default = record.default_recipe
    rows = list(record.ranking[:LEADERS])
    if default is not None and default not in rows and default.value is not None:
        rows.append(default)
    table = Table(
        title=f"{escape(record.name)}: best {'finished' if best.state == 'finished' else 'unfinished'} trials",
        title_justify="left",
        box=None,
        pad_edge=False,
    )
    table.add_column("trial", justify="right")
    table.add_column(f"validation {record.metric}", justify="right")
    table.add_column("epochs", justify="right")
    table.add_column("configuration", overflow="fold")
    for trial in rows:
        unfinished = "" if trial.state in ("finished", "stopped") else f", {trial.state}"
        mark = f" (default recipe{unfinished})" if trial.is_default_recipe else ""
        table.add_row(
            str(trial.number), f"{trial.value:.4f}", f"{trial.epochs_done}/{trial.epochs_planned}", brief_configuration(trial.config) + mark
        )
    out.print(table)
    out.print("\n[bold]The best configuration[/]" + (", the default recipe itself" if best.is_default_recipe else ""))
    for sentence in describe_configuration(best.config):
        out.print(escape(sentence))
    _print_test_result(record)


def _print_test_result(record: StudyRecord) -> None:
    if not record.test:
        return
    images = record.dataset["images"]["test"]
    times = "once" if len(record.test_evaluations) < 2 else f"{len(record.test_evaluations)} times, because the search was continued"
    table = Table(title=f"On {images} test images, evaluated {times}", title_justify="left", box=None, pad_edge=False)
    table.add_column("")
    winner = record.test["winner"]["test"]
    order = [record.metric, *(name for name in winner if name != record.metric)]
    for name in order:
        table.add_column(name, justify="right")
    number, folds = record.test["winner"]["trial"], record.best.config.get("folds") if record.best else 0
    network = ": the network of its first fold" if folds else ""
    labels = {
        "winner": (f"trial {number}, the winner" if number else "trial 0, the winner, the default recipe itself") + network,
        "refit": f"trial {number}, trained on training and validation images, and exported",
        "default_recipe": f"trial 0, the default recipe{network}",
    }
    for role, label in labels.items():
        if role in record.test and (number or role != "default_recipe"):
            table.add_row(label, *(f"{record.test[role]['test'][name]:.4f}" for name in order))
    console().print()
    console().print(table)


def print_conclusion(record: StudyRecord) -> None:
    """Print the end of a search: why it ended, the result, and where the files are."""
    out = console()
    out.print()
    print_summary(record)
    if record.best is None:
        if record.state != "interrupted":
            out.print("no trial finished, so there is no result to export")
        return
    out.print()
    print_leaderboard(record)
    if (record.folder / "best.yaml").exists():
        out.print(f"\n{record.folder / 'best.yaml'}\n{record.folder / 'best.safetensors'}", soft_wrap=True)
        out.print(f"train it again: injerto train {record.folder / 'best.yaml'}", soft_wrap=True)
