"""The training loop in plain PyTorch: training on the batches of one epoch, and prediction."""

import math
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor

from trainables.distributed.world import ALONE, World
from trainables.errors import NonFiniteError
from trainables.images.batches import Batch
from trainables.networks.model import Network
from trainables.training.tasks import Loss

Autocast = Callable[[], AbstractContextManager[None]]


@dataclass(frozen=True)
class LoopSettings:
    """What the training loop needs besides the network, the optimizer and the batches; the same in every epoch of a trial."""

    loss: Loss
    rate: Callable[[int], float]  # 0-based step of the trial → factor on the peak learning rate of each group
    thaw_step: int  # the body is frozen before this step
    clip_norm: float  # largest norm of the gradient; 0 does not clip
    accumulation: int  # micro-batches a step
    autocast: Autocast
    world: World = ALONE


def train_epoch(
    network: Network, optimizer: torch.optim.Optimizer, batches: Iterable[Batch], settings: LoopSettings, *, first_step: int
) -> tuple[float, int]:
    """Train on the batches, one optimizer step each, and return (mean training loss, images trained on).

    `first_step` is the 0-based step of the trial that the first batch makes. In a world of several processes each has its own part of every
    batch; gradients, loss and count are those of the whole batches.
    Raises ``NonFiniteError`` in all processes, after the last batch, if the loss of any step was not a finite number.
    """
    total, images_seen, steps = torch.zeros(()), 0, 0
    network.train()
    network.thaw(first_step >= settings.thaw_step)
    for step, (images, targets) in enumerate(batches, first_step):
        if step >= settings.thaw_step and not network.thawed:
            network.thaw(True)
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * settings.rate(step)
        for part, wanted in zip(images.chunk(settings.accumulation), targets.chunk(settings.accumulation), strict=True):
            with settings.autocast():
                loss = settings.loss(network(part).float(), wanted) / settings.accumulation
            loss.backward()
            total = total.to(loss.device) + loss.detach()
        settings.world.average(p.grad for p in network.parameters() if p.grad is not None)
        if settings.clip_norm:
            torch.nn.utils.clip_grad_norm_(network.parameters(), settings.clip_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        images_seen, steps = images_seen + len(images) * settings.world.size, steps + 1
    settings.world.average([total])
    mean = float(total) / steps
    if not math.isfinite(mean):
        raise NonFiniteError(f"the training loss became {mean}; a lower learning rate or gradient clipping helps")
    return mean, images_seen


@torch.inference_mode()
def predict(network: Network, batches: Iterable[Batch], autocast: Autocast) -> tuple[Tensor, Tensor]:
    """Return the logits `(N, outputs)` and the targets of all batches, in main memory. Leaves the network in evaluation mode."""
    network.eval()
    logits, targets = [], []
    for images, wanted in batches:
        with autocast():
            logits.append(network(images).float().cpu())
        targets.append(wanted.cpu())
    return torch.cat(logits), torch.cat(targets)
