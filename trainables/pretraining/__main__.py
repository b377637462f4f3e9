"""The command that makes the built-in backbone weights again: `python -m trainables.pretraining --seed 0`."""

import os
import time
from pathlib import Path
from typing import Annotated

import platformdirs
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from trainables.storage.atomic_write import atomic_write

WORK_FOLDER = platformdirs.user_cache_path("injerto") / "pretraining"
SHIPPED_WEIGHTS = Path(__file__).with_name("mobilenet_v3_small.safetensors")


def pretrain(
    seed: Annotated[int, typer.Option(help="Seed of the images, the first weights and the order.", min=0)] = 0,
    images: Annotated[int, typer.Option(help="Images to draw.", min=20)] = 60_000,
    classes: Annotated[int, typer.Option(help="Classes they show.", min=3)] = 400,
    epochs: Annotated[int, typer.Option(help="Passes over the images.", min=1)] = 18,
    work: Annotated[Path, typer.Option(help="Folder for the images, the checkpoint and each epoch's weights.")] = WORK_FOLDER,
    to: Annotated[Path, typer.Option(help="The weights to write.")] = SHIPPED_WEIGHTS,
    threads: Annotated[int | None, typer.Option(help="CPU threads; by default one for each core.", min=1)] = None,
) -> None:
    """Draw the images, train MobileNetV3-Small on them and write its body. A second start resumes after the last complete epoch."""
    import numpy as np
    import torch

    from trainables.pretraining.images import labels_of, write_images
    from trainables.pretraining.train import PretrainingRecipe, steps_per_epoch, train

    workers = threads or os.cpu_count() or 1
    torch.set_num_threads(workers)
    work.mkdir(parents=True, exist_ok=True)
    recipe = PretrainingRecipe(seed=seed, images=images, classes=classes, epochs=epochs)
    drawn = work / f"images_{seed}_{images}_{classes}.npy"
    console = Console()
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console) as progress:
        if not drawn.exists():
            drawing = progress.add_task("images", total=images)
            for count in write_images(drawn, seed=seed, images=images, classes=classes, processes=workers):
                progress.advance(drawing, count)

        pixels, labels = torch.from_numpy(np.load(drawn)), torch.from_numpy(labels_of(images, classes))
        training = progress.add_task("steps", total=epochs * steps_per_epoch(images))
        start = time.monotonic()
        for report in train(pixels, labels, recipe, work, on_step=lambda: progress.advance(training)):
            progress.update(training, completed=report.epoch * steps_per_epoch(images))
            minutes = (time.monotonic() - start) / 60
            console.print(f"epoch {report.epoch:2d}: loss {report.loss:.3f}, accuracy {report.accuracy:.3f}, {minutes:.1f} min")

    with atomic_write(to) as file:
        file.write((work / f"epoch_{epochs:02d}.safetensors").read_bytes())
    console.print(f"{to}: {to.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    typer.run(pretrain)
