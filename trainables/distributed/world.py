"""The processes that train one network together, and what they exchange. Alone, a process exchanges nothing."""

import os
import socket
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from itertools import groupby

import numpy as np
import psutil
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor
from torch.distributed import TCPStore  # type: ignore[attr-defined]

TIMEOUT = timedelta(minutes=5)
"""How long a process waits for the others in one exchange. They do the same work at the same time, so more is a sign of trouble."""


@dataclass(frozen=True)
class World:
    """How many processes train one network together, and which of them this one is; rank 0 speaks for all."""

    rank: int = 0
    size: int = 1

    def share(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return this process's part of rows, equally many for each; the first rows fill up the last part. See `gather`."""
        if self.size == 1:
            return rows
        each = -(-len(rows) // self.size)
        return np.resize(rows, each * self.size)[self.rank * each : (self.rank + 1) * each]

    def gather(self, mine: Tensor, count: int) -> Tensor:
        """Return what every process has found for its share of `count` rows, `(count, …)`, in the order of the rows."""
        return mine if self.size == 1 else torch.cat(_all(mine))[:count]

    def average(self, tensors: Iterable[Tensor]) -> None:
        """Replace tensors by their means over the processes, in one exchange for each type of number."""
        self._sum(tensors, self.size)

    def sum(self, tensors: Iterable[Tensor]) -> None:
        """Replace tensors by their sums over the processes."""
        self._sum(tensors, 1)

    def broadcast(self, tensors: Iterable[Tensor]) -> None:
        """Replace tensors by those of rank 0."""
        if self.size > 1:
            for alike in _by_type(tensors):
                flat = _flat(alike)
                dist.broadcast(flat, src=0)
                _unflat(flat, alike)

    def _sum(self, tensors: Iterable[Tensor], parts: int) -> None:
        if self.size > 1:
            for alike in _by_type(tensors):
                flat = _flat(alike)
                dist.all_reduce(flat)
                _unflat(flat / parts if parts > 1 else flat, alike)


ALONE = World()


def listen(address: str, world: World) -> TCPStore:
    """Open the place where the processes of a world meet, on a free port of this node's address, and of no other address."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listener = socket.create_server((address, 0), family=family)
    port = listener.getsockname()[1]
    handle = listener.detach()
    return TCPStore(address, port, world.size, True, timeout=TIMEOUT, wait_for_workers=False, master_listen_fd=handle)


def visit(address: str, port: int, world: World) -> TCPStore:
    """Go to the place that rank 0 has opened."""
    return TCPStore(address, port, world.size, False, timeout=TIMEOUT)


def join(world: World, store: TCPStore, own_address: str, *, cuda: bool) -> None:
    """Connect this process with the others of its world: GPUs by NCCL, processors by Gloo, over the interface of `own_address`."""
    if interface := _interface(own_address):
        # Otherwise Gloo takes what the host's name resolves to, which on many machines no other can reach.
        for variable in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
            os.environ.setdefault(variable, interface)
    backend = "cpu:gloo,cuda:nccl" if cuda else "gloo"
    dist.init_process_group(backend, store=store, rank=world.rank, world_size=world.size, timeout=TIMEOUT)


def interrupt() -> None:
    """End the exchange that another thread of this process waits in; one over Gloo ends by itself when a connection does."""
    if dist.is_initialized() and dist.group.WORLD is not None:
        dist.group.WORLD.abort()


def leave(*, failed: bool = False) -> None:
    """Disconnect this process from the others. After a failure none is waited for, and what the others wait for ends with an error."""
    if not dist.is_initialized():
        return
    if not failed:
        dist.destroy_process_group()
        return
    with suppress(Exception):  # what is broken already may not be taken down in good order
        interrupt()
        dist.destroy_process_group()


def _all(mine: Tensor) -> list[Tensor]:
    found = [torch.empty_like(mine) for _ in range(dist.get_world_size())]
    dist.all_gather(found, mine.contiguous())
    return found


def _by_type(tensors: Iterable[Tensor]) -> list[list[Tensor]]:
    ordered = sorted(tensors, key=lambda tensor: str(tensor.dtype))  # sorted() keeps the order among equals: the same on every rank
    return [list(alike) for _, alike in groupby(ordered, key=lambda tensor: tensor.dtype)]


def _flat(tensors: list[Tensor]) -> Tensor:
    return torch.cat([tensor.detach().reshape(-1) for tensor in tensors])


def _unflat(flat: Tensor, tensors: list[Tensor]) -> None:
    for part, tensor in zip(flat.split([tensor.numel() for tensor in tensors]), tensors, strict=True):
        tensor.detach().copy_(part.view(tensor.shape))


def _interface(address: str) -> str | None:
    """Return the network interface that an address belongs to; all of 127.0.0.0/8 belongs to the one that has any of it."""
    addresses = {one.address: name for name, found in psutil.net_if_addrs().items() for one in found}
    return addresses.get("127.0.0.1" if address.startswith("127.") else address)
