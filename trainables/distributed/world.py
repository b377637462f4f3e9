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
    """How many processes train one network together, and which of them this one is; rank 0 reports for all."""

    rank: int = 0
    size: int = 1

    def share(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return this process's part of rows, of one size for every process: the first rows fill up the last part. See `gather`."""
        if self.size == 1:
            return rows
        each = -(-len(rows) // self.size)
        return np.resize(rows, each * self.size)[self.rank * each : (self.rank + 1) * each]

    def gather(self, own: Tensor, count: int) -> Tensor:
        """Return the results of all processes for their shares of `count` rows, `(count, …)`, in the order of the rows."""
        if self.size == 1:
            return own
        parts = [torch.empty_like(own) for _ in range(self.size)]
        dist.all_gather(parts, own.contiguous())
        return torch.cat(parts)[:count]

    def average(self, tensors: Iterable[Tensor]) -> None:
        """Replace tensors by their means over the processes, in one exchange for each dtype."""
        self._exchange(tensors, dist.all_reduce, divisor=self.size)

    def sum(self, tensors: Iterable[Tensor]) -> None:
        """Replace tensors by their sums over the processes."""
        self._exchange(tensors, dist.all_reduce)

    def broadcast(self, tensors: Iterable[Tensor]) -> None:
        """Replace tensors by those of rank 0."""
        self._exchange(tensors, partial(dist.broadcast, src=0))

    def _exchange(self, tensors: Iterable[Tensor], collective: Callable[[Tensor], object], *, divisor: int = 1) -> None:
        """Run an in-place collective operation on tensors, all of one dtype together, and divide what it gives."""
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
