"""One trial in one process against the same trial in several, in one run: images a second, and what the exchange costs.

    python tests/benchmarks/replicas.py [FOLDER] [--replicas 2] [--batch-size 64] [--unfrozen-stages 5] [--epochs 3] [--json FILE]

Each process has one processor thread and they meet over Gloo. The batch is the same in both, so a replica has its part of it: two
processes on two idle processors would at best be twice as fast as one. `exchange_share` is the part of the training time in which rank
0 exchanges gradients or waits for the others to have theirs.
"""

import json
import multiprocessing
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import typer

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
    json_file: Annotated[Path | None, typer.Option("--json")] = None,
) -> None:
    """Print and write both, measured in turns."""
    from trainables.data.dataset import prepare

    dataset = prepare(source=folder, image_size=image_size)
    trial = {"backbone": backbone, "image_size": image_size, "batch_size": batch_size, "unfrozen_stages": unfrozen_stages}
    job = (dataset.fingerprint, trial | {"epochs": epochs + 1, "freeze_steps": 0.0})
    found: dict[int, list[dict[str, float]]] = {1: [], replicas: []}
    for _ in range(ROUNDS):
        for size, measured in found.items():
            measured.append(run(size, *job))
    result: dict[str, Any] = {"data": Path(folder).name, **trial, "epochs": epochs, "rounds": ROUNDS}
    for size, measured in found.items():
        of = {name: round(median(one[name] for one in measured), 4) for name in measured[0]}
        result["one_process" if size == 1 else f"{size}_processes"] = of
    speeds = {size: median(one["images_per_second"] for one in measured) for size, measured in found.items()}
    result["ratio"] = round(speeds[replicas] / speeds[1], 2)
    print(json.dumps(result, indent=2))
    if json_file is not None:
        json_file.write_text(json.dumps(result, indent=2))


def run(size: int, *job: Any) -> dict[str, float]:
    """Train in so many processes and return what rank 0 has measured."""
    context = multiprocessing.get_context("spawn")
    ports, found = context.Queue(), context.Queue()
    processes = [context.Process(target=work, args=(rank, size, ports, found, *job)) for rank in range(size)]
    for process in processes:
        process.start()
    measured: dict[str, float] = found.get(timeout=3600)
    for process in processes:
        process.join()
    return measured


def work(rank: int, size: int, ports: Any, found: Any, fingerprint: str, values: dict[str, Any]) -> None:
    """Train one epoch to warm up and then the others, as one rank."""
    import torch
    from torch import Tensor

    from trainables.config import TrialConfig
    from trainables.data.dataset import open_dataset
    from trainables.distributed.world import World, join, leave, listen, visit
    from trainables.training.trainer import Trainer

    @dataclass(frozen=True)
    class Timed(World):
        spent: list[float] = field(default_factory=list)

        def average(self, tensors: Iterable[Tensor]) -> None:
            started = time.perf_counter()
            super().average(tensors)
            self.spent.append(time.perf_counter() - started)

    torch.set_num_threads(1)
    trial, world = TrialConfig.model_validate(values), Timed(rank, size)
    dataset = open_dataset(fingerprint, trial.image_size, trial.aspect)
    trainer = Trainer(dataset, trial, device=torch.device("cpu"), world=world)
    if size > 1:
        if rank == 0:
            store = listen(HOST, world)
            for _ in range(size - 1):
                ports.put(store.port)
        else:
            store = visit(HOST, ports.get(), world)
        join(world, store, HOST, cuda=False)
        trainer.align()
    trainer.run_epoch()
    world.spent.clear()
    while trainer.epoch < trial.epochs:
        trainer.run_epoch()
    leave()
    if rank == 0:
        seconds = trainer.history["seconds_training"][1:]
        images = trainer.steps_per_epoch * trial.batch_size * len(seconds)
        evaluation = sum(trainer.history["seconds_evaluation"][1:]) / len(seconds)
        exchange = {"exchange_share": sum(world.spent) / sum(seconds), "exchange_ms_per_step": 1000 * median(world.spent)}
        found.put({"images_per_second": images / sum(seconds), "seconds_evaluation": evaluation, **(exchange if size > 1 else {})})


if __name__ == "__main__":
    typer.run(main)
