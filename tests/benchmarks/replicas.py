"""One trial in one process against the same trial in several processes, in one run: images per second, and the cost of the exchange.

    python tests/benchmarks/replicas.py [FOLDER] [--replicas 2] [--batch-size 64] [--unfrozen-stages 5] [--epochs 3] [--json FILE]

Each process uses one CPU thread; they exchange gradients over Gloo. The batch size is that of the whole trial, so each replica computes
a part of the batch: two processes on two idle CPUs are at best twice as fast as one. `exchange_share` is the share of the training time
in which rank 0 exchanges gradients or waits for those of the other ranks.
"""

import multiprocessing
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import typer

from tests.benchmarks.report import JsonFile, report_json

HOST = "127.0.0.1"
ROUNDS = 3


def main(
    folder: Annotated[str, typer.Argument(help="data set")] = "builtin:digits",
    replicas: int = 2,
    backbone: str = "mobilenet_v3_small",
    image_size: int = 64,
    batch_size: int = 64,
    unfrozen_stages: int = 5,
    epochs: int = 3,
    json_file: JsonFile = None,
) -> None:
    """Measure both in turns and report the medians."""
    from trainables.data.dataset import prepare

    dataset = prepare(source=folder, image_size=image_size)
    trial = {"backbone": backbone, "image_size": image_size, "batch_size": batch_size, "unfrozen_stages": unfrozen_stages}
    job = (dataset.fingerprint, trial | {"weights": "none", "epochs": epochs + 1, "freeze_steps": 0.0})
    measurements: dict[int, list[dict[str, float]]] = {1: [], replicas: []}
    for _ in range(ROUNDS):
        for size, measured in measurements.items():
            measured.append(run(size, *job))
    result: dict[str, Any] = {"data": Path(folder).name, **trial, "epochs": epochs, "rounds": ROUNDS}
    for size, measured in measurements.items():
        medians = {name: round(median(round_[name] for round_ in measured), 4) for name in measured[0]}
        result["one_process" if size == 1 else f"{size}_processes"] = medians
    speeds = {size: median(round_["images_per_second"] for round_ in measured) for size, measured in measurements.items()}
    result["ratio"] = round(speeds[replicas] / speeds[1], 2)
    report_json(result, json_file)


def run(size: int, *job: Any) -> dict[str, float]:
    """Train in so many processes and return the figures of rank 0."""
    context = multiprocessing.get_context("spawn")
    ports, figures = context.Queue(), context.Queue()
    processes = [context.Process(target=work, args=(rank, size, ports, figures, *job)) for rank in range(size)]
    for process in processes:
        process.start()
    measured: dict[str, float] = figures.get(timeout=3600)
    for process in processes:
        process.join()
    return measured


def work(rank: int, size: int, ports: Any, figures: Any, fingerprint: str, values: dict[str, Any]) -> None:
    """Run one rank: an epoch that warms up, then the epochs that are measured; rank 0 puts the figures on a queue."""
    import torch
    from torch import Tensor

    from trainables.config import TrialConfig
    from trainables.data.dataset import open_dataset
    from trainables.distributed.rendezvous import leave_process_group
    from trainables.distributed.world import World
    from trainables.training.trainer import Trainer

    @dataclass(frozen=True)
    class TimedWorld(World):
        exchange_seconds: list[float] = field(default_factory=list)

        def average(self, tensors: Iterable[Tensor]) -> None:
            started = time.perf_counter()
            super().average(tensors)
            self.exchange_seconds.append(time.perf_counter() - started)

    torch.set_num_threads(1)
    trial, world = TrialConfig.model_validate(values), TimedWorld(rank, size)
    dataset = open_dataset(fingerprint, trial.image_size, trial.aspect)
    trainer = Trainer(dataset, trial, device=torch.device("cpu"), world=world)
    if size > 1:
        join(world, ports)
        trainer.align()
    trainer.run_epoch()
    world.exchange_seconds.clear()
    while trainer.epoch < trial.epochs:
        trainer.run_epoch()
    leave_process_group()
    if rank == 0:
        seconds = trainer.history["seconds_training"][1:]
        images = trainer.steps_per_epoch * trial.batch_size * len(seconds)
        evaluation = sum(trainer.history["seconds_evaluation"][1:]) / len(seconds)
        exchange = size > 1 and {
            "exchange_share": sum(world.exchange_seconds) / sum(seconds),
            "exchange_ms_per_step": 1000 * median(world.exchange_seconds),
        }
        figures.put({"images_per_second": images / sum(seconds), "seconds_evaluation": evaluation, **(exchange or {})})


def join(world: Any, ports: Any) -> None:
    """Join the process group; rank 0 opens its store and passes the port to the other ranks."""
    from trainables.distributed.rendezvous import connect_store, join_process_group, open_store

    if world.rank == 0:
        store = open_store(HOST, world)
        for _ in range(world.size - 1):
            ports.put(store.port)
    else:
        store = connect_store(HOST, ports.get(), world)
    join_process_group(world, store, HOST, cuda=False)


if __name__ == "__main__":
    typer.run(main)
