"""The training loop: plain PyTorch, one visible sequence."""

import math
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager

import torch
from torch import Tensor

from trainables.distributed.world import ALONE, World
from trainables.errors import NonFiniteError
from trainables.images.batches import Batch
from trainables.networks.model import Network
from trainables.training.tasks import Loss

Autocast = Callable[[], AbstractContextManager[None]]


def train_epoch(
    network: Network,
    optimizer: torch.optim.Optimizer,
    batches: Iterable[Batch],
    loss: Loss,
    *,
    first_step: int,
    rate: Callable[[int], float],
    thaw_step: int,
    clip_norm: float,
    accumulation: int,
    autocast: Autocast,
    world: World = ALONE,
) -> tuple[float, int]:
    """Train on batches and return (mean training loss, images seen).

    `rate` maps a step to the factor on each group's peak rate; the body stays frozen before `thaw_step`.
    Each process of a `world` has its own part of every batch; gradients and loss are those of the whole one.
    Raises ``NonFiniteError`` if the loss of any step was not a finite number, in all processes alike.
    """
    total, images_seen, steps = torch.zeros(()), 0, 0
    network.train()
    network.thaw(first_step >= thaw_step)
    for step, (images, targets) in enumerate(batches, first_step):
        if step >= thaw_step and not network.thawed:
            network.thaw(True)
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * rate(step)
        for part, wanted in zip(images.chunk(accumulation), targets.chunk(accumulation), strict=True):
            with autocast():
                value = loss(network(part).float(), wanted) / accumulation
            value.backward()
            total = total.to(value.device) + value.detach()
        world.average(p.grad for p in network.parameters() if p.grad is not None)
        if clip_norm:
            torch.nn.utils.clip_grad_norm_(network.parameters(), clip_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        images_seen, steps = images_seen + len(images) * world.size, steps + 1
    world.average([total])
    mean = float(total) / steps
    if not math.isfinite(mean):
        raise NonFiniteError(f"the training loss became {mean}; a lower learning rate or gradient clipping helps")
    return mean, images_seen


@torch.inference_mode()
def predict(network: Network, batches: Iterable[Batch], autocast: Autocast) -> tuple[Tensor, Tensor]:
    """Return logits `(N, outputs)` and targets of all batches, on the processor."""
    network.eval()
    logits, targets = [], []
    for images, wanted in batches:
        with autocast():
            logits.append(network(images).float().cpu())
        targets.append(wanted.cpu())
    return torch.cat(logits), torch.cat(targets)
