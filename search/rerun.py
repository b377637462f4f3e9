"""Trains one configuration again from its YAML file, in this process and without Ray."""

import os
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from trainables.config import Recipe, read_yaml, validate
from trainables.data.dataset import Dataset, difference, prepare_from_config
from trainables.errors import ConfigError, DataError
from trainables.thread_map import OnProgress


def rerun(path: Path, to: Path, *, force: bool = False) -> dict[str, float]:
    """Train the recipe at `path`, write the network's weights to `to`, and return its metrics on the test split: name → value.

    The metrics are empty if there is no test image. Progress and metrics are printed. Raises ``ConfigError`` if `to` cannot be written or
    exists (unless `force` is set), or if a value of the recipe does not fit; ``DataError`` if the data has changed.
    """
    if to.is_dir() or not to.resolve().parent.is_dir() or not os.access(to.resolve().parent, os.W_OK):
        raise ConfigError(f"cannot write weights to {to}; name a file in a folder that exists, with --to")
    if to.exists() and not force:
        raise ConfigError(f"{to} exists already; name another file with --to, or pass --force")
    recipe = validate(Recipe, read_yaml(path), str(path))
    out = Console(highlight=False)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=out, transient=True, disable=not out.is_terminal) as progress:
        task = progress.add_task("reading", total=None)
        dataset = prepare_data(recipe, lambda done, total, what: progress.update(task, completed=done, total=total, description=what))
        os.environ["OMP_NUM_THREADS"] = str(recipe.threads)
        from trainables.training.fold_trainer import new_trainer
        from trainables.training.refit import refit_trainer
        from trainables.training.trainer import set_threads

        set_threads(recipe.threads)
        trainer = (refit_trainer if recipe.refit else new_trainer)(dataset, recipe.trial, metric=recipe.metric)
        progress.update(task, completed=0, total=recipe.trial.epochs, description="training")
        while trainer.epoch < recipe.trial.epochs:
            row = trainer.run_epoch()
            shown = "train_loss" if recipe.refit else trainer.metric  # a refit has no validation images
            progress.update(task, completed=trainer.epoch, description=f"training, {shown} {row[shown]:.4g}")
            if not out.is_terminal:
                part = "" if recipe.refit else "validation "
                out.print(f"epoch {trainer.epoch}/{recipe.trial.epochs}: {part}{shown} {row[shown]:.4g}")
    test = trainer.evaluate("test") if len(dataset.rows["test"]) else {}
    trainer.export(to)
    if not recipe.refit:
        out.print(_compared_with_record(recipe, trainer.metric, trainer.history["objective"]), soft_wrap=True)
    out.print("test " + ", ".join(f"{name} {number:.4f}" for name, number in test.items()), soft_wrap=True)
    out.print(str(to), soft_wrap=True)
    return test


def _compared_with_record(recipe: Recipe, metric: str, values: list[float]) -> str:
    """Return a sentence with the last of the values of each epoch, and the one that the search recorded."""
    result = f"validation {metric} {values[-1]:.4f}"
    if recipe.value is None:
        return result
    if recipe.epochs_done is None or recipe.epochs_done >= len(values):
        return f"{result}; the search recorded {recipe.value:.4f}"
    then = f"after epoch {recipe.epochs_done}, where the search stopped this trial, it was {values[recipe.epochs_done - 1]:.4f}"
    return f"{result}; {then}, and the search recorded {recipe.value:.4f}"


def prepare_data(recipe: Recipe, on_progress: OnProgress) -> Dataset:
    """Read and decode a recipe's data. `on_progress` is called meanwhile.

    Raises ``DataError`` if the data's fingerprint is not the recipe's, unless the recipe has none.
    """
    trial = recipe.trial
    dataset = prepare_from_config(recipe.data, image_size=trial.image_size, aspect=trial.aspect, on_progress=on_progress)
    if recipe.fingerprint and (differs := difference(dataset, recipe.fingerprint, recipe.data.source, "this recipe was found")):
        raise DataError(f"{differs}; remove the line 'fingerprint' to train on it anyway")
    return dataset
