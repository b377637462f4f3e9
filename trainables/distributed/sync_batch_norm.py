"""Batch norm over the micro-batches of all replicas, for batches that are too small on one GPU."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

MAPS = (0, 2, 3)
"""Axes over which a channel of `(N, C, H, W)` has its statistics."""


class SyncBatchNorm(nn.BatchNorm2d):
    """A `BatchNorm2d` whose training statistics are those of all processes' maps, equally many in each.

    Written out, where torch's `SyncBatchNorm` runs on GPUs alone: what trains there is what the tests see on processors. While
    statistics are recomputed (no momentum) each process has batches of its own, and it is a plain one.
    """

    def forward(self, maps: Tensor) -> Tensor:
        """Return normalised `(N, C, H, W)`, in the type of `maps`."""
        if not self.training or self.momentum is None:
            return super().forward(maps)
        values = maps.float()
        variance, mean = torch.var_mean(values, MAPS, correction=0)
        variances, means = _Gathered.apply(torch.stack([variance, mean])).unbind(1)  # (replicas, C)
        mean = means.mean(0)
        variance = (variances + (means - mean).square()).mean(0)
        self._follow(mean.detach(), variance.detach(), len(means) * maps.numel() // maps.shape[1])
        scale = self.weight * torch.rsqrt(variance + self.eps)
        shift = self.bias - mean * scale
        normalised: Tensor = values * scale.view(1, -1, 1, 1) + shift.view(1, -1, 1, 1)
        return normalised.to(maps.dtype)

    @torch.no_grad()
    def _follow(self, mean: Tensor, variance: Tensor, count: int) -> None:
        """Let the running statistics follow; as in `BatchNorm2d`, the running variance is the unbiased one."""
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance * (count / max(1, count - 1)), self.momentum)
        self.num_batches_tracked.add_(1)


class _Gathered(torch.autograd.Function):
    """Every process's tensor, stacked; what comes back to a process is the sum of what all of them made of its own."""

    @staticmethod
    def forward(context: Any, mine: Tensor) -> Tensor:
        found = [torch.empty_like(mine) for _ in range(dist.get_world_size())]
        dist.all_gather(found, mine.contiguous())
        return torch.stack(found)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        gradient = gradient.contiguous()
        dist.all_reduce(gradient)
        return gradient[dist.get_rank()]


def synchronise(network: nn.Module) -> None:
    """Make every `BatchNorm2d` in a network a `SyncBatchNorm`, in place: a body's stages hold references to its modules."""
    for module in network.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = SyncBatchNorm
