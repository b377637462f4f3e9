"""Two real processes that meet over Gloo without Ray, and what they are asked to do."""

import multiprocessing
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import psutil
import torch
from torch import nn

from trainables.config import TrialConfig
from trainables.data.dataset import open_dataset
from trainables.distributed.sync_batch_norm import SyncBatchNorm
from trainables.distributed.world import ALONE, World, join, leave, listen, visit
from trainables.training.trainer import Trainer

HOST, CPU = "127.0.0.1", torch.device("cpu")
CLOCK = ("seconds_training", "seconds_evaluation", "images_per_second")


class Pair:
    """Two processes, one rank each, that live from job to job."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipes, self._processes = [], []
        for rank in range(2):
            mine, its = context.Pipe()
            process = context.Process(target=_serve, args=(World(rank, 2), its), daemon=True)
            process.start()
            self._pipes.append(mine)
            self._processes.append(process)

    def run(self, function: Callable[..., Any], *arguments: object, **options: object) -> list[Any]:
        """Call a function of this module in both, connected, with their world first; return what each gives, or its error as text."""
        for pipe in self._pipes:
            pipe.send((function.__name__, arguments, options))
        self._pipes[1].send(self._pipes[0].recv())  # the port
        return [pipe.recv() for pipe in self._pipes]

    def close(self) -> None:
        for pipe in self._pipes:
            pipe.send(None)
        for process in self._processes:
            process.join(20)
            assert process.exitcode == 0


def _serve(world: World, pipe: Connection) -> None:
    torch.set_num_threads(1)
    while job := pipe.recv():
        name, arguments, options = job
        if world.rank == 0:
            store = listen(HOST, world)
            pipe.send(store.port)
        else:
            store = visit(HOST, pipe.recv(), world)
        join(world, store, HOST, cuda=False)
        try:
            pipe.send(globals()[name](world, *arguments, **options))
        except Exception:
            pipe.send(traceback.format_exc())
        finally:
            leave()
            del store


def train(world: World, fingerprint: str, values: dict[str, Any], *, noise: str | None = None, **options: Any):
    """Train a trial to its end and return its history, without what the clock measured, and the weights.

    All but rank 0 begin with noise in the tensor of that name.
    """
    trial = TrialConfig.model_validate(values)
    trainer = Trainer(open_dataset(fingerprint, trial.image_size, trial.aspect), trial, device=CPU, world=world, **options)
    if noise and world.rank:
        trainer.network.load_state_dict({noise: torch.randn_like(trainer.network.state_dict()[noise])}, strict=False)
    trainer.align()
    while trainer.epoch < trial.epochs:
        trainer.run_epoch()
    history = {name: numbers for name, numbers in trainer.history.items() if name not in CLOCK}
    return history, {name: tensor.numpy().copy() for name, tensor in trainer.network.state_dict().items()}


def train_alone(dataset, trial: TrialConfig, **options: Any):
    """What `train` gives in one process."""
    return train(ALONE, dataset.fingerprint, trial.model_dump(), **options)


def normalise(world: World, steps: int):
    """Train a norm for some steps on this process's half of each batch, and return what it gives, its gradients and statistics.

    A world of one has the whole batches and a plain batch norm.
    """
    norm = (SyncBatchNorm if world.size > 1 else nn.BatchNorm2d)(5)
    with torch.no_grad():
        norm.weight.copy_(torch.linspace(0.5, 2, 5))
        norm.bias.copy_(torch.linspace(-1, 1, 5))
    generator = torch.Generator().manual_seed(0)
    for step in range(steps):
        maps = 3 + (step + 1) * torch.randn(8, 5, 3, 4, generator=generator)
        wanted = torch.randn(8, 5, 3, 4, generator=generator)
        half = slice(8 // world.size * world.rank, 8 // world.size * (world.rank + 1))
        maps = maps[half].requires_grad_()
        norm.zero_grad()
        given = norm(maps)
        (given * wanted[half]).square().mean().backward()
    world.average([norm.weight.grad, norm.bias.grad])
    whole = world.gather(given.detach(), 8), world.gather(maps.grad / world.size, 8)
    return [tensor.numpy() for tensor in (*whole, norm.weight.grad, norm.bias.grad, norm.running_mean, norm.running_var)]


def exchange(world: World):
    """What tensors of several types become."""
    mine = [torch.full((2, 2), 1.0 + world.rank), torch.tensor(3 + world.rank), torch.full((3,), 10.0 * world.rank, dtype=torch.float64)]
    strided = torch.arange(6.0).view(2, 3).t() * (1 + world.rank)
    world.average([strided])
    summed, first = [tensor.clone() for tensor in mine], [tensor.clone() for tensor in mine]
    world.sum(iter(summed))
    world.broadcast(first)
    gathered = world.gather(torch.tensor(world.share(torch.arange(5).numpy())), 5)
    return [tensor.tolist() for tensor in (strided, *summed, *first, gathered)]


def listening(world: World):
    """The addresses at which this process takes connections."""
    return [found.laddr.ip for found in psutil.Process().net_connections() if found.status == psutil.CONN_LISTEN]
