"""What the built-in weights are worth: fine-tuning from them against training the same network from scratch, on photographs.

    python tests/benchmarks/pretrained.py FOLDER [--images 400] [--epochs 15] [--batch-size 32] [--seeds 3] [--json FILE]

FOLDER is an image folder. For each seed, `--images` training images are drawn. Both runs use the same images, steps, batches,
augmentation and batch-norm policy; only the weights differ. Epochs are passes over the images. Accuracy is that of the last epoch on the
test split.
"""

import json
from dataclasses import replace
from pathlib import Path
from statistics import mean, stdev

import numpy as np
import typer

from tests.benchmarks.report import JsonFile, report_json
from trainables.config import TrialConfig
from trainables.data.dataset import Dataset, prepare
from trainables.recipe import default_recipe, passes_per_epoch


def main(
    folder: Path,
    images: int = 400,
    epochs: int = 15,
    batch_size: int = 32,
    seeds: int = 3,
    threads: int = 1,
    json_file: JsonFile = None,
) -> None:
    """Report the test accuracy from scratch and from the built-in weights, and the gain."""
    from trainables.training.trainer import set_threads

    set_threads(threads)
    rows = []
    for seed in range(seeds):
        dataset = subset(prepare(source=str(folder), image_size=64, seed=seed), images, seed)
        recipe = default_recipe(
            images, task=dataset.task, backbone="mobilenet_v3_small", stages=5, weights="builtin", image_size=64, seed=seed
        )
        recipe = recipe.model_copy(
            update={"epochs": round(epochs / passes_per_epoch(images, batch_size)), "batch_size": batch_size, "stage_lr_decay": 1.0}
        )
        row: dict[str, float] = {"seed": seed}
        for weights in ("none", "builtin"):
            row[weights] = accuracy(dataset, recipe.model_copy(update={"weights": weights}))
        print(json.dumps(row), flush=True)
        rows.append(row)
    gains = [row["builtin"] - row["none"] for row in rows]
    result = {
        "data": folder.name,
        "training_images": images,
        "epochs": epochs,
        "batch_size": batch_size,
        "runs": rows,
        "none": mean(row["none"] for row in rows),
        "builtin": mean(row["builtin"] for row in rows),
        "gain": mean(gains),
        "gain_deviation": stdev(gains) if len(gains) > 1 else 0.0,
    }
    report_json(result, json_file)


def subset(dataset: Dataset, images: int, seed: int) -> Dataset:
    """Return the data set with so many training images, drawn at random."""
    train = np.sort(np.random.default_rng(seed).permutation(dataset.rows["train"])[:images])
    return replace(dataset, rows={**dataset.rows, "train": train})


def accuracy(dataset: Dataset, trial: TrialConfig) -> float:
    """Train and return the accuracy on the test split."""
    from trainables.training.trainer import Trainer

    trainer = Trainer(dataset, trial)
    while trainer.epoch < trial.epochs:
        trainer.run_epoch()
    return round(trainer.evaluate("test")["accuracy"], 4)


if __name__ == "__main__":
    typer.run(main)
