"""How well training uses a GPU: our loop against the bare step, batches alone, and several small trials at once on one GPU.

    python -m tests.benchmarks.gpu [--parts step,input,packing,precision] [--backbones resnet50,convnext_tiny] [--json FILE]

It needs neither Ray nor Optuna nor a network: images are random and weights are not pretrained. Only `precision` trains from ImageNet
weights on real images, and is left out with the reason where either is not at hand. `--device cpu` runs the same on a CPU. All figures
are images a second, and ratios of two measurements of this run.
"""

import multiprocessing
import os
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from statistics import mean, median, stdev
from typing import Any

import numpy as np
import torch
import typer
from torch.nn import functional as F

from tests.benchmarks.report import JsonFile, report_json
from tests.paths import real_data_folder
from trainables.config import AUGMENTATION_OPS, TrialConfig
from trainables.data.dataset import Dataset, prepare
from trainables.images.batches import Batch, Batches
from trainables.images.pixel_map import stored_side
from trainables.networks.backbones import backbone as row_of
from trainables.recipe import default_recipe
from trainables.training import trainer as trainer_module
from trainables.training.precision import FLOAT32, precision_on
from trainables.training.trainer import Trainer

CLASSES = 10
LONGEST_WAIT = 180  # seconds, for the other processes


@dataclass(frozen=True)
class Settings:
    """What all parts share."""

    device: str
    backbones: tuple[str, ...]
    image_size: int
    batch_size: int
    images: int
    seconds: float  # of each measurement
    small_backbone: str
    small_size: int
    small_batch: int
    processes: tuple[int, ...]


def main(
    parts: str = "step,input,packing,precision",
    device: str = "cuda",
    backbones: str = "resnet50,convnext_tiny",
    image_size: int = 224,
    batch_size: int = 128,
    images: int = 4096,
    seconds: float = 8.0,
    small_backbone: str = "efficientnet_lite0",
    small_size: int = 96,
    small_batch: int = 32,
    processes: str = "1,2,4,8",
    json_file: JsonFile = None,
) -> None:
    """Run the parts and report their figures. `processes`: how many small trials run at once."""
    given = Settings(
        device=device,
        backbones=tuple(backbones.split(",")),
        image_size=image_size,
        batch_size=batch_size,
        images=images,
        seconds=seconds,
        small_backbone=small_backbone,
        small_size=small_size,
        small_batch=small_batch,
        processes=tuple(map(int, processes.split(","))),
    )
    name = torch.cuda.get_device_name() if device == "cuda" else device
    figures: dict[str, Any] = {"device": name, "torch": torch.__version__}
    for part in parts.split(","):
        started = time.perf_counter()
        figures[part] = PARTS[part](given)
        figures[part]["wall_seconds"] = round(time.perf_counter() - started, 1)
        report_json(figures, json_file)


def random_dataset(images: int, image_size: int) -> Dataset:
    """Return a data set of random images in memory, a quarter of them for validation."""
    side, rng = stored_side(image_size), np.random.default_rng(0)
    order = rng.permutation(images)
    quarter = images // 4
    return Dataset(
        fingerprint="random",
        task="multiclass",
        classes=tuple(f"class {number}" for number in range(CLASSES)),
        images=rng.integers(0, 256, (images, side, side, 3), np.uint8),
        rows={"train": np.sort(order[quarter:]), "validation": np.sort(order[:quarter]), "test": order[:0]},
        targets=np.arange(images) % CLASSES,
        groups=np.arange(images),
        names=tuple(map(str, range(images))),
        image_size=image_size,
        aspect="crop",
        pixels_key="random",
        bits=8,
        median_side=side,
        notes=(),
    )


def random_trainer(dataset: Dataset, name: str, batch_size: int, device: str) -> Trainer:
    """Return a trainer of all stages of a network with random weights."""
    trial = TrialConfig(
        backbone=name,
        weights="none",
        image_size=dataset.image_size,
        unfrozen_stages=len(row_of(name).stages),
        head_epochs=0,
        batch_size=batch_size,
        learning_rate=1e-4,
        epochs=1000,
    )
    return Trainer(dataset, trial, device=torch.device(device), workers=min(16, len(os.sched_getaffinity(0))))


def step(given: Settings) -> dict[str, Any]:
    """Compare our training and our whole epoch with the bare step on one batch in the device's memory."""
    dataset, rows = random_dataset(given.images, given.image_size), {}
    for name in given.backbones:
        trainer = random_trainer(dataset, name, given.batch_size, given.device)
        trainer.run_epoch()
        bare, training, epoch = [], [], []
        for _ in range(3):
            bare.append(rate(bare_steps(trainer), given))
            row = trainer.run_epoch()
            training.append(row["images_per_second"])
            seen = row["images_per_second"] * row["seconds_training"]
            epoch.append(seen / (row["seconds_training"] + row["seconds_evaluation"]))
        rows[name] = {
            "bare": round(median(bare)),
            "training_to_bare": round(median(training) / median(bare), 3),
            "epoch_to_bare": round(median(epoch) / median(bare), 3),
        }
        del trainer
        free(given)
    return rows


def bare_steps(trainer: Trainer) -> Iterable[int]:
    """Make optimizer steps on one batch, with the number formats of training, and yield the images of each."""
    images, targets = next(trainer.batches.evaluation(trainer.dataset.rows["train"][: trainer.trial.batch_size], trainer.trial.batch_size))
    trainer.network.train()
    precision = trainer.settings.precision
    while True:
        with precision.autocast():
            logits = trainer.network(images)
        F.cross_entropy(logits.float(), targets).backward()
        torch.nn.utils.clip_grad_norm_(trainer.network.parameters(), trainer.trial.clip_norm)
        trainer.optimizer.step()
        trainer.optimizer.zero_grad(set_to_none=True)
        yield len(images)


def input_(given: Settings) -> dict[str, Any]:
    """Measure how many augmented images a second come to the device, augmented there and by the CPU."""
    dataset, threads = random_dataset(given.images, given.image_size), min(16, len(os.sched_getaffinity(0)))
    rates = {}
    for there in (True, False):
        batches = Batches(
            dataset.images,
            dataset.targets,
            image_size=given.image_size,
            mean=(0.5,) * 3,
            std=(0.25,) * 3,
            device=torch.device(given.device),
            workers=threads,
            augments_on_device=there,
        )
        rates["device" if there else f"{threads} CPU threads"] = round(rate(counted(batches, dataset, given.batch_size), given))
    on_device, on_cpu = rates.values()
    return {"images_per_second": rates, "ratio": round(on_device / on_cpu, 2)}


def counted(batches: Batches, dataset: Dataset, batch_size: int) -> Iterable[int]:
    """Yield the number of images of each batch, epoch after epoch, at the default recipe's strength."""
    for epoch in range(1, 1_000_000):
        found: Iterable[Batch] = batches.training(
            dataset.rows["train"], batch_size, strength=0.25, ops=AUGMENTATION_OPS, seed=0, epoch=epoch
        )
        yield from (len(images) for images, _ in found)


def packing(given: Settings) -> dict[str, Any]:
    """Train small trials in several processes on one GPU; compare the sum of their images a second with that of one."""
    total = {count: sum(rates_of_processes(count, given)) for count in given.processes}
    one = total[given.processes[0]] / given.processes[0]
    return {
        "images_per_second": {str(count): round(value) for count, value in total.items()},
        "ratio": {str(count): round(value / one, 2) for count, value in total.items()},
    }


def rates_of_processes(count: int, given: Settings) -> list[float]:
    """Return the images a second of each of so many processes that train at the same time."""
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager, ProcessPoolExecutor(count, mp_context=context) as pool:
        together = manager.Barrier(count)
        return [future.result() for future in [pool.submit(rate_of_small_trial, given, together) for _ in range(count)]]


def rate_of_small_trial(given: Settings, together: Any) -> float:
    """Train one small trial once all processes are ready, and return its images a second."""
    torch.set_num_threads(1)
    trainer = random_trainer(random_dataset(given.images, given.small_size), given.small_backbone, given.small_batch, given.device)
    trainer.run_epoch()
    together.wait(LONGEST_WAIT)
    return rate(trained_images(trainer), given)


def trained_images(trainer: Trainer) -> Iterable[int]:
    """Train epoch after epoch, and yield the images of each."""
    while True:
        row = trainer.run_epoch()
        yield round(row["images_per_second"] * row["seconds_training"])


def precision(given: Settings) -> dict[str, Any]:
    """Compare the test accuracy of the default recipe in the GPU's number format with float32, over three seeds."""
    data = real_data_folder() / "clothing10"
    if not data.is_dir():
        return {"left out": f"there is no folder {data}; INJERTO_TEST_DATA names the one with the image sets"}
    dataset, device = prepare(str(data), image_size=given.small_size), torch.device(given.device)
    found: dict[str, list[float]] = {}
    for seed in range(3):
        recipe = default_recipe(
            len(dataset.rows["train"]),
            task=dataset.task,
            backbone=given.small_backbone,
            stages=len(row_of(given.small_backbone).stages),
            weights="imagenet",
            image_size=given.small_size,
            seed=seed,
        )
        for name, choose in (("own", precision_on), ("float32", lambda device: FLOAT32)):
            trainer_module.precision_on = choose
            trainer = Trainer(dataset, recipe, device=device, workers=4)
            while trainer.epoch < recipe.epochs:
                trainer.run_epoch()
            found.setdefault(name, []).append(trainer.evaluate("test")["accuracy"])
        trainer_module.precision_on = precision_on
    gains = [own - other for own, other in zip(*found.values(), strict=True)]
    return {"accuracy": found, "gain": round(mean(gains), 4), "standard_error": round(stdev(gains) / len(gains) ** 0.5, 4)}


def rate(work: Iterable[int], given: Settings) -> float:
    """Return the images a second of work that yields the number of images of each of its steps, after a first step."""
    steps = iter(work)
    next(steps)
    synchronize(given)
    started, images = time.perf_counter(), 0
    while time.perf_counter() - started < given.seconds:
        images += next(steps)
        synchronize(given)
    return images / (time.perf_counter() - started)


def synchronize(given: Settings) -> None:
    """Wait until the device has done its work."""
    if given.device == "cuda":
        torch.cuda.synchronize()


def free(given: Settings) -> None:
    """Give cached memory back to the device."""
    if given.device == "cuda":
        torch.cuda.empty_cache()


PARTS: dict[str, Callable[[Settings], dict[str, Any]]] = {"step": step, "input": input_, "packing": packing, "precision": precision}

if __name__ == "__main__":
    typer.run(main)
