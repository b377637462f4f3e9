"""How fast our training is against the bare step: forward, backward and optimizer on tensors that are in memory.

    python -m tests.benchmarks.step [--backbone efficientnet_lite0] [--image-size 96] [--unfrozen-stages 5] [--rounds 5] [--json FILE]

Both sides use one CPU thread and the same network, batches and optimizer, and take turns. `training` is our epoch without its evaluation,
`epoch` the whole epoch. The figures are shares of the bare step's images a second.
"""

import time
from statistics import median
from typing import Any

import numpy as np
import torch
import typer
from torch.nn import functional as F

from tests.benchmarks.report import JsonFile, report_json
from tests.paths import real_data_folder
from trainables.data.dataset import prepare
from trainables.networks.backbones import backbone as row_of
from trainables.recipe import default_recipe
from trainables.training.trainer import Trainer, set_threads


def main(
    data: str = "clothing10",
    backbone: str = "efficientnet_lite0",
    weights: str = "imagenet",
    image_size: int = 96,
    unfrozen_stages: int | None = None,
    rounds: int = 5,
    json_file: JsonFile = None,
) -> None:
    """Report images a second of the bare step, of our training and of our whole epoch, and their ratios."""
    set_threads(1)
    stages = len(row_of(backbone).stages)
    dataset = prepare(str(real_data_folder() / data), image_size=image_size)
    recipe = default_recipe(
        len(dataset.rows["train"]), task=dataset.task, backbone=backbone, stages=stages, weights=weights, image_size=image_size
    )
    depth = stages if unfrozen_stages is None else unfrozen_stages
    trainer = Trainer(dataset, recipe.model_copy(update={"unfrozen_stages": depth, "epochs": rounds + 1, "head_epochs": 0}))
    trainer.run_epoch()
    bare, training, epoch = [], [], []
    for _ in range(rounds):
        bare.append(bare_images_per_second(trainer))
        row = trainer.run_epoch()
        training.append(row["images_per_second"])
        images = row["images_per_second"] * row["seconds_training"]
        epoch.append(images / (row["seconds_training"] + row["seconds_evaluation"]))
    figures: dict[str, Any] = {
        "settings": {
            "data": data,
            "backbone": backbone,
            "image_size": image_size,
            "unfrozen_stages": depth,
            "batch_size": recipe.batch_size,
        },
        "images_per_second": {"bare": median(bare), "training": median(training), "epoch": median(epoch)},
        "training_to_bare": median(ours / other for ours, other in zip(training, bare, strict=True)),
        "epoch_to_bare": median(ours / other for ours, other in zip(epoch, bare, strict=True)),
    }
    report_json(figures, json_file)


def bare_images_per_second(trainer: Trainer, steps: int = 12) -> float:
    """Return how many images a second the trainer's network trains on if the batch is in memory, over so many steps."""
    trial, targets = trainer.trial, trainer.dataset.targets
    rows = trainer.dataset.rows["train"][: trial.batch_size]
    images, wanted = next(trainer.batches.evaluation(rows, len(rows)))
    loss = F.cross_entropy if np.issubdtype(targets.dtype, np.integer) else F.mse_loss
    trainer.network.train()
    started = time.perf_counter()
    for _ in range(steps):
        loss(trainer.network(images), wanted).backward()
        torch.nn.utils.clip_grad_norm_(trainer.network.parameters(), trial.clip_norm)
        trainer.optimizer.step()
        trainer.optimizer.zero_grad(set_to_none=True)
    return steps * len(rows) / (time.perf_counter() - started)


if __name__ == "__main__":
    typer.run(main)
