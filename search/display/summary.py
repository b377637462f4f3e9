"""What came of a search, in words and tables on the terminal."""

from collections.abc import Mapping
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from search.formatting import in_brief, plain
from search.record.records import StudyRecord, TrialRecord

LEADERS = 5
AUGMENTATION = ((0.0, "none"), (0.3, "light"), (0.6, "medium"), (1.0, "strong"))


def console() -> Console:
    """Return a console that writes to standard output as it is now."""
    return Console(highlight=False)


def in_words(config: Mapping[str, Any]) -> list[str]:
    """Return a configuration as sentences."""
    shown = SimpleNamespace(**config)
    decay = f"{shown.stage_lr_decay:.2g} times the rate"
    stages = f"its last {shown.unfrozen_stages} stages, each further from the head at {decay} of the one before"
    depth = stages if shown.unfrozen_stages > 1 else f"its last stage at {decay} of the head"
    body = f"train {depth}, after a frozen first {shown.freeze_steps:.0%} of the steps" if shown.unfrozen_stages else "keep it frozen"
    plural = "s" * (shown.head_layers > 1)
    hidden = f"{shown.head_layers} hidden layer{plural} of {shown.head_units} neurons ({shown.activation})"
    head = hidden if shown.head_layers else "a perceptron"
    momentum = f" with momentum {shown.momentum:g}" if shown.optimizer != "adamw" else ""
    smoothing = f", label smoothing {shown.label_smoothing:g}" if shown.label_smoothing else ""
    amount = next((word for limit, word in AUGMENTATION if shown.augmentation_strength <= limit), AUGMENTATION[-1][1])
    ops = ": " + ", ".join(shown.augmentation_ops) if shown.augmentation_strength else ""
    return [
        f"Take {shown.backbone} with {shown.weights} weights at {shown.image_size} px; {body}.",
        f"On it {head}, weights from {shown.initializer}, dropout {shown.dropout:.2g}{smoothing}.",
        f"Optimize by {shown.optimizer}{momentum}, learning rate {shown.learning_rate:.3g} ({shown.schedule}, warm-up {shown.warmup:.0%}), "
        f"weight decay {shown.weight_decay:.2g}, batches of {shown.batch_size}, {shown.epochs} epochs.",
        f"Augment: {amount} (strength {shown.augmentation_strength:g}{ops}).",
    ]


def summary(record: StudyRecord) -> None:
    """Print a study's state in a few lines."""
    out = console()
    why = f": {record.why}" if record.why else ""
    out.print(f"[bold]{escape(record.name)}[/] {record.state}{escape(plain(why))}")
    out.print("trials: " + ", ".join(f"{count} {state}" for state, count in record.counts.items() if count))
    out.print(f"epochs: {sum(trial.epochs_done for trial in record.trials)}, time: {timedelta(seconds=round(record.seconds))}")
    if record.best is not None and record.best.value is not None:
        out.print(f"best validation {record.metric}: {record.best.value:.4g} (trial {record.best.number})")
    if words := on_test_images(record):
        out.print(escape(words), soft_wrap=True)
    failures(record)
    if record.state == "interrupted":
        out.print(f"go on with it: injerto resume {record.name}", soft_wrap=True)


def on_test_images(record: StudyRecord) -> str:
    """Say how the winner did on the test images beside the default recipe; nothing before they are opened."""
    winner, default = (record.test.get(role, {}).get("test", {}).get(record.metric) for role in ("winner", "default_recipe"))
    if winner is None:
        return ""
    images = f"On the {record.dataset['images']['test']:,} test images, which no trial has seen,"
    if record.test["winner"].get("trial") == 0:
        return f"{images} the default recipe, which no other trial has beaten, has {record.metric} {winner:.4g}."
    if default is None:
        return f"{images} the winner has {record.metric} {winner:.4g}."
    if winner > default if record.mode == "max" else winner < default:
        return f"{images} the winner has {record.metric} {winner:.4g}, the default recipe {default:.4g}."
    return (
        f"{images} the winner is no better than the default recipe ({record.metric} {winner:.4g} against {default:.4g}): "
        "what it gained on the validation images may be chance."
    )


def failures(record: StudyRecord) -> None:
    """Print each kind of failure once, with how often it came."""
    kinds: dict[str, list[TrialRecord]] = {}
    for trial in record.trials:
        if trial.error:
            kinds.setdefault(f"{trial.error['kind']}: {trial.error['message']}", []).append(trial)
    for words, trials in kinds.items():
        numbers = ", ".join(str(trial.number) for trial in trials[:8]) + (f" and {len(trials) - 8} more" if len(trials) > 8 else "")
        console().print(f"[red]failed[/] {escape(plain(words))} (trial {numbers})", soft_wrap=True)


def leaderboard(record: StudyRecord) -> None:
    """Print the best trials, the default recipe among them, then the best configuration in words."""
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
        open_state = "" if trial.state in ("finished", "stopped") else f", {trial.state}"
        mark = f" (default recipe{open_state})" if trial.is_default_recipe else ""
        table.add_row(str(trial.number), f"{trial.value:.4f}", f"{trial.epochs_done}/{trial.epochs_planned}", in_brief(trial.config) + mark)
    out.print(table)
    out.print("\n[bold]The best configuration[/]" + (", the default recipe itself" if best.is_default_recipe else ""))
    for sentence in in_words(best.config):
        out.print(escape(sentence))
    _test(record)


def _test(record: StudyRecord) -> None:
    if not record.test:
        return
    images = record.dataset["images"]["test"]
    times = "once" if len(record.openings) < 2 else f"{len(record.openings)} times, as the search went on after that"
    table = Table(title=f"On {images} test images, opened {times}", title_justify="left", box=None, pad_edge=False)
    table.add_column("")
    winner = record.test["winner"]["test"]
    order = [record.metric, *(name for name in winner if name != record.metric)]
    for name in order:
        table.add_column(name, justify="right")
    number = record.test["winner"]["trial"]
    rows = {"winner": f"trial {number}, the winner", "default_recipe": "trial 0, the default recipe"}
    for role, words in rows.items() if number else [("winner", "trial 0, the winner, the default recipe itself")]:
        if role in record.test:
            table.add_row(words, *(f"{record.test[role]['test'][name]:.4f}" for name in order))
    console().print()
    console().print(table)


def conclusion(record: StudyRecord) -> None:
    """Print the end of a search: why it ended, what it found, where the files are."""
    out = console()
    out.print()
    summary(record)
    if record.best is None:
        if record.state != "interrupted":
            out.print("no trial finished; nothing to hand over")
        return
    out.print()
    leaderboard(record)
    if (record.folder / "best.yaml").exists():
        out.print(f"\n{record.folder / 'best.yaml'}\n{record.folder / 'best.safetensors'}", soft_wrap=True)
        out.print(f"train it again: injerto train {record.folder / 'best.yaml'}", soft_wrap=True)
