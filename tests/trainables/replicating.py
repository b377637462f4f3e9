"""Two real processes that are connected over Gloo without Ray, and the functions that tests run in them."""

import multiprocessing
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from timm.layers import BatchNormAct2d
from torch import nn

from tests.trainables.conftest import SHORT_EPOCH
from trainables import recipe
from trainables.config import TrialConfig
from trainables.data.dataset import open_dataset
from trainables.distributed.rendezvous import connect_store, join_process_group, leave_process_group, open_store
from trainables.distributed.sync_batch_norm import synchronize_batch_norm
from trainables.distributed.world import ALONE, World
from trainables.training.trainer import Trainer

HOST, CPU = "127.0.0.1", torch.device("cpu")
CLOCK = ("seconds_training", "seconds_evaluation", "images_per_second")
EXACT = 1e-6
"""Relative tolerance of mean losses, which are summed in another order; weights are compared bit for bit."""


class Pair:
    """Two processes, one rank each, that run one function after another. Their epochs are short, see `SHORT_EPOCH`."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipes, self._processes = [], []
        for rank in range(2):
            own_end, other_end = context.Pipe()
            process = context.Process(target=_serve, args=(World(rank, 2), other_end), daemon=True)
            process.start()
            self._pipes.append(own_end)
            self._processes.append(process)

    def run(self, function: Callable[..., Any], *arguments: object, **options: object) -> list[Any]:
        """Call a function of this module, first argument the world, in both connected processes; return each one's result or traceback."""
        for pipe in self._pipes:
            pipe.send((function.__name__, arguments, options))
        self._pipes[1].send(self._pipes[0].recv())  # the port
        return [pipe.recv() for pipe in self._pipes]

    def close(self) -> None:
        for pipe in self._pipes:
            pipe.send(None)
        for process in self._processes:
            process.join(60)
            assert process.exitcode == 0


def _serve(world: World, pipe: Connection) -> None:
    torch.set_num_threads(1)
    recipe.STEPS_PER_EPOCH = SHORT_EPOCH
    while job := pipe.recv():
        name, arguments, options = job
        if world.rank == 0:
            store = open_store(HOST, world)
            pipe.send(store.port)
        else:
            store = connect_store(HOST, pipe.recv(), world)
        join_process_group(world, store, HOST, cuda=False)
        try:
            pipe.send(globals()[name](world, *arguments, **options))
        except Exception:
            pipe.send(traceback.format_exc())
        finally:
            leave_process_group()
            del store


def train(world: World, fingerprint: str, values: dict[str, Any], *, noise: str | None = None, **options: Any):
    """Train a trial to its end; return its history without measured times, and the weights.

    With `noise`, all ranks but 0 begin with random values in the tensor of that name.
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
    """Return the result of `train` in one process."""
    return train(ALONE, dataset.fingerprint, trial.model_dump(), **options)


def train_in_two_processes(pair: Pair, dataset, trial: TrialConfig, **options: Any):
    """Return the result of `train` in two processes, which must be the same in both."""
    first, second = pair.run(train, dataset.fingerprint, trial.model_dump(), **options)
    assert not isinstance(first, str), first
    assert not isinstance(second, str), second
    assert first[0] == second[0], "all ranks have the same metrics"
    assert largest_difference(first[1], second[1]) == 0, "all ranks have the same weights and statistics"
    return first


def largest_difference(a: dict[str, Any], b: dict[str, Any]) -> float:
    """Return the largest absolute difference between two sets of arrays with the same names."""
    assert a.keys() == b.keys()
    return max(float(np.abs(a[name].astype(float) - b[name].astype(float)).max()) for name in a)


def assert_same_history(history, other, tolerance: float) -> None:
    assert history.keys() == other.keys()
    for name, values in history.items():
        assert values == pytest.approx(other[name], rel=tolerance, abs=tolerance), name


def normalize(world: World, steps: int, activated: bool):
    """Train a batch norm for some steps on this process's half of each batch; return its outputs, gradients and statistics.

    A world of one process has the whole batches and a plain batch norm. With `activated` the layer is timm's, which ends with a ReLU6.
    """
    norm = BatchNormAct2d(5, act_layer=nn.ReLU6) if activated else nn.BatchNorm2d(5)
    if world.size > 1:
        synchronize_batch_norm(norm)
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
        outputs = norm(maps)
        (outputs * wanted[half]).square().mean().backward()
    world.average([norm.weight.grad, norm.bias.grad])
    whole = world.gather(outputs.detach(), 8), world.gather(maps.grad / world.size, 8)
    return [tensor.numpy() for tensor in (*whole, norm.weight.grad, norm.bias.grad, norm.running_mean, norm.running_var)]


def exchange(world: World):
    """Average, sum, broadcast and gather tensors of several types; return the results."""
    own = [torch.full((2, 2), 1.0 + world.rank), torch.tensor(3 + world.rank), torch.full((3,), 10.0 * world.rank, dtype=torch.float64)]
    strided = torch.arange(6.0).view(2, 3).t() * (1 + world.rank)
    world.average([strided])
    summed, first = [tensor.clone() for tensor in own], [tensor.clone() for tensor in own]
    world.sum(iter(summed))
    world.broadcast(first)
    gathered = world.gather(torch.tensor(world.share(torch.arange(5).numpy())), 5)
    return [tensor.tolist() for tensor in (strided, *summed, *first, gathered)]


def listening_addresses(world: World):
    """Return the addresses at which this process accepts connections."""
    return [one.laddr.ip for one in psutil.Process().net_connections() if one.status == psutil.CONN_LISTEN]
