"""Batch norm whose statistics cover the micro-batches of all replicas, for batches that are too small on one GPU."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

MAPS = (0, 2, 3)
"""Axes of `(N, C, H, W)` over which the statistics of a channel are computed."""


class SyncBatchNorm(nn.BatchNorm2d):
    """A `BatchNorm2d` whose training statistics are computed over the maps of all processes. Each must have the same number of maps.

    torch's own `SyncBatchNorm` runs on GPUs only. This one also runs on CPUs, so the tests cover the code that trains on GPUs.
    While statistics are recomputed (`momentum` is None), each process has its own batches, and this layer is a plain `BatchNorm2d`.
    A layer that was timm's `BatchNormAct2d` keeps its dropout `drop` and its activation `act`.
    """

    def forward(self, maps: Tensor) -> Tensor:
        """Return the normalised and, for a layer with an activation, activated maps `(N, C, H, W)`, in the dtype of `maps`.

        In training mode all processes must call this at the same time.
        """
        synchronized = self.training and self.momentum is not None
        normalised: Tensor = self._normalize_together(maps) if synchronized else super().forward(maps)
        for name in ("drop", "act"):
            if part := self._modules.get(name):
                normalised = part(normalised)
        return normalised

    def _normalize_together(self, maps: Tensor) -> Tensor:
        values = maps.float()
        variance, mean = torch.var_mean(values, MAPS, correction=0)
        variances, means = _Gather.apply(torch.stack([variance, mean])).unbind(1)  # (replicas, C)
        mean = means.mean(0)
        variance = (variances + (means - mean).square()).mean(0)
        self._update_running_statistics(mean.detach(), variance.detach(), len(means) * maps.numel() // maps.shape[1])
        scale = self.weight * torch.rsqrt(variance + self.eps)
        shift = self.bias - mean * scale
        normalised: Tensor = values * scale.view(1, -1, 1, 1) + shift.view(1, -1, 1, 1)
        return normalised.to(maps.dtype)

    @torch.no_grad()
    def _update_running_statistics(self, mean: Tensor, variance: Tensor, count: int) -> None:
        """Move the running statistics towards a batch's `mean` and biased `variance`, both `(C,)`, over `count` values of each channel.

        As in `BatchNorm2d`, the running variance is the unbiased one.
        """
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance * (count / max(1, count - 1)), self.momentum)
        self.num_batches_tracked.add_(1)


class _Gather(torch.autograd.Function):
    """Stack the tensors of all processes in the order of ranks: `(…)` → `(processes, …)`.

    The gradient of a process's tensor is the sum of the gradients that all processes have for it.
    """

    @staticmethod
    def forward(context: Any, own: Tensor) -> Tensor:
        parts = [torch.empty_like(own) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, own.contiguous())
        return torch.stack(parts)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        gradient = gradient.contiguous()
        dist.all_reduce(gradient)
        return gradient[dist.get_rank()]


def synchronize_batch_norm(network: nn.Module) -> None:
    """Turn every `BatchNorm2d` of a network into a `SyncBatchNorm`, in place: the stages of a body hold references to its modules."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.__class__ = SyncBatchNorm
