"""What changes to the default recipe do to the test metric and to the CPU time, on the real image sets.

    python -m tests.benchmarks.recipe [--sets clothing10,outfits] [--seeds 3] [--change unfrozen_stages=3] [--change dropout=0.5,ema=0.99]

Every run trains in a process of its own with one CPU thread; `--jobs` run at a time. A seed is that of the split, where the set has none,
and that of the trial. Each `--change` is one variant: fields of `TrialConfig`, separated by commas, and `refit=true`, which trains on the
validation images too. Variants that differ in evaluation only share one training. A variant that a set refuses, such as
`class_balance=sampling` for several labels, is left out of its table. For each variant the table has the mean of the test
metric, and the mean difference to the recipe over pairs of one set and one seed, with its standard error.
"""

import os
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from math import sqrt
from multiprocessing import get_context
from statistics import mean, stdev
from typing import Annotated, Any

import typer
import yaml

from cluster.environment import set_environment
from tests.benchmarks.report import JsonFile, report_table
from tests.paths import real_data_folder
from trainables.config import TrialConfig
from trainables.data.dataset import prepare
from trainables.objectives import DIRECTIONS, sign
from trainables.recipe import default_recipe

METRICS = {"clothing10": "accuracy", "sign_digits10": "accuracy", "shoes": "auroc", "outfits": "map", "sign_value": "mae"}
"""Real image set → the metric that is reported."""
EVALUATION_FIELDS = {"evaluation_size", "flip_average"}
"""Fields of `TrialConfig` without an effect on training."""
Variants = dict[str, dict[str, Any]]
Changes = Annotated[
    list[str] | None, typer.Option("--change", help="one variant: fields of the configuration, such as dropout=0.5,ema=0.99")
]


def main(
    sets: str = ",".join(METRICS),
    seeds: int = 3,
    image_size: int = 96,
    weights: str = "imagenet",
    backbone: str = "efficientnet_lite0",
    jobs: int = 2,
    change: Changes = None,
    json_file: JsonFile = None,
) -> None:
    """Report the test metric and the CPU seconds of the default recipe and of each variant."""
    variants: Variants = {"recipe": {}, **{text: parse(text) for text in change or ()}}
    fixed = {"image_size": image_size, "weights": weights, "backbone": backbone}
    results: dict[tuple[str, str, int], dict[str, float]] = {}
    set_environment()  # the processes of the pool read it as they start, as workers do
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), initializer=use_one_thread) as pool:
        running = {
            pool.submit(run, name, seed, fixed, group): (name, seed)
            for seed in range(seeds)
            for name in sets.split(",")
            for group in trained_alike(variants)
        }
        for done in as_completed(running):
            if (error := done.exception()) is not None:
                print("left out:", *running[done], error, flush=True)
                continue
            for variant, result in done.result().items():
                results[variant, *running[done]] = result
                print(variant, *running[done], result, flush=True)
    rows = {
        f"{name}: {variant}": summary(*([results[one, name, seed] for seed in range(seeds)] for one in (variant, "recipe")))
        for name in sets.split(",")
        for variant in variants
        if all((one, name, seed) in results for one in (variant, "recipe") for seed in range(seeds))
    }
    figures = {"settings": fixed, "seeds": seeds, "rows": rows, "runs": [{"run": key, **row} for key, row in results.items()]}
    report_table(f"test metric, {seeds} seeds, {weights} {backbone}, {image_size} px", rows, figures, json_file)


def parse(text: str) -> dict[str, Any]:
    """Return the fields that a variant changes: name → value. A value may be a list: `augmentation_ops=[crop,flip]`."""
    changes: dict[str, Any] = yaml.safe_load("{" + text.replace("=", ": ") + "}")
    return changes


def use_one_thread() -> None:
    """Let this process use one CPU thread."""
    os.environ["OMP_NUM_THREADS"] = "1"
    import torch

    torch.set_num_threads(1)


def trained_alike(variants: Variants) -> list[Variants]:
    """Return the variants in groups of those that train in the same way."""
    groups: dict[str, Variants] = {}
    for variant, changes in variants.items():
        trained = {name: value for name, value in changes.items() if name not in EVALUATION_FIELDS}
        groups.setdefault(repr(sorted(trained.items())), {})[variant] = changes
    return list(groups.values())


def run(name: str, seed: int, fixed: Mapping[str, Any], variants: Variants) -> dict[str, dict[str, float]]:
    """Train variants that train alike on one set; return the test metric, what to compare with others, and the CPU seconds of each."""
    from trainables.networks.backbones import backbone
    from trainables.training.refit import refit_trainer
    from trainables.training.trainer import Trainer

    changes = [dict(variant) for variant in variants.values()]
    settings = {**fixed, **{key: value for key, value in changes[0].items() if key in fixed}}
    aspect = changes[0].get("aspect", "crop")
    dataset = prepare(str(real_data_folder() / name), seed=seed, image_size=settings["image_size"], aspect=aspect)
    recipe = default_recipe(
        len(dataset.rows["train"]), task=dataset.task, stages=len(backbone(settings["backbone"]).stages), seed=seed, **settings
    )
    build = refit_trainer if changes[0].pop("refit", False) else Trainer
    started = time.process_time()
    trainers = [build(dataset, TrialConfig.model_validate(recipe.model_dump() | own), metric=METRICS[name]) for own in changes]
    trained = trainers[0]
    while trained.epoch < trained.trial.epochs:
        trained.run_epoch()
    seconds = time.process_time() - started
    results = {}
    for variant, trainer in zip(variants, trainers, strict=True):
        trainer.network.load_state_dict(trained.network.state_dict())
        trainer.evaluator.recompute_statistics(trainer.dataset.rows["train"], seed)
        value = trainer.evaluate("test")[METRICS[name]]
        results[variant] = {"value": value, "gain": sign(DIRECTIONS[METRICS[name]]) * value, "cpu_seconds": seconds}
    return results


def summary(variant: list[dict[str, float]], recipe: list[dict[str, float]]) -> dict[str, float]:
    """Return the mean metric and CPU seconds of a variant, and its mean gain over the recipe with the standard error."""
    gains = [one["gain"] - other["gain"] for one, other in zip(variant, recipe, strict=True)]
    return {
        "metric": round(mean(row["value"] for row in variant), 4),
        "gain": round(mean(gains), 4),
        "standard_error": round(stdev(gains) / sqrt(len(gains)), 4) if len(gains) > 1 else float("nan"),
        "cpu_seconds": round(mean(row["cpu_seconds"] for row in variant), 1),
    }


if __name__ == "__main__":
    typer.run(main)
