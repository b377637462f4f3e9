"""The processes that train one network together, and what they exchange. A process that trains alone exchanges nothing."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from itertools import groupby

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True)
class World:
    """How many processes train one network together (`size`), and which of them this one is (`rank`); rank 0 reports for all."""

    rank: int = 0
    size: int = 1

    def share(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return this process's part of rows. The parts follow each other in the order of ranks, and all have the same length.

        If the rows do not divide evenly, the last parts are filled up with rows from the start. `gather` puts the results together again.
        """
        if self.size == 1:
            return rows
        each = -(-len(rows) // self.size)
        return np.resize(rows, each * self.size)[self.rank * each : (self.rank + 1) * each]

    def gather(self, own: Tensor, count: int) -> Tensor:
        """Return the results of all processes in the order of the rows, `(count, …)`, where `count` rows were divided by `share`.

        `own` holds this process's results, one for each row of its share. Every process must call this, and gets the same.
        """
        if self.size == 1:
            return own
        parts = [torch.empty_like(own) for _ in range(self.size)]
        dist.all_gather(parts, own.contiguous())
        return torch.cat(parts)[:count]

    def average(self, tensors: Iterable[Tensor]) -> None:
        """Replace tensors in place by their means over the processes.

        Every process must call this, with tensors of the same shapes in the same order.
        """
        self._exchange(tensors, dist.all_reduce, divisor=self.size)

    def sum(self, tensors: Iterable[Tensor]) -> None:
        """Replace tensors in place by their sums over the processes. Every process must call this, as for `average`."""
        self._exchange(tensors, dist.all_reduce)

    def broadcast(self, tensors: Iterable[Tensor]) -> None:
        """Replace tensors in place by those of rank 0. Every process must call this, as for `average`."""
        self._exchange(tensors, partial(dist.broadcast, src=0))

    def _exchange(self, tensors: Iterable[Tensor], collective: Callable[[Tensor], object], *, divisor: int = 1) -> None:
        """Replace tensors in place by the result of a collective operation on them, divided by `divisor`.

        `collective` changes one flat tensor in place, which holds all tensors of one dtype, so there is one exchange for each dtype. Does
        nothing in a world of one process.
        """
        if self.size == 1:
            return
        for same_type in _by_type(tensors):
            flat = torch.cat([tensor.detach().reshape(-1) for tensor in same_type])
            collective(flat)
            parts = (flat / divisor if divisor > 1 else flat).split([tensor.numel() for tensor in same_type])
            for tensor, part in zip(same_type, parts, strict=True):
                tensor.detach().copy_(part.view(tensor.shape))


ALONE = World()


def _by_type(tensors: Iterable[Tensor]) -> list[list[Tensor]]:
    ordered = sorted(tensors, key=lambda tensor: str(tensor.dtype))  # sorted() keeps the order among equals: the same on every rank
    return [list(same_type) for _, same_type in groupby(ordered, key=lambda tensor: tensor.dtype)]
