"""The training loop in plain PyTorch: training on the batches of one epoch."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from trainables.distributed.world import ALONE, World
from trainables.errors import NonFiniteError
from trainables.images.batches import Batch
from trainables.networks.model import Network
from trainables.training.depthwise import fast_depthwise
from trainables.training.precision import FLOAT32, Precision
from trainables.training.regularization.mixing import NO_MIXING, Mixing
from trainables.training.regularization.pretrained_pull import PretrainedPull
from trainables.training.regularization.weight_average import WeightAverage
from trainables.training.tasks import Loss

MOST_DOUBLINGS = 2


class MicroBatches:
    """Into how many parts each batch is split. `count` doubles, at most twice, if the device's memory does not hold the parts."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._doublings = 0

    def double(self, batch: int) -> bool:
        """Double the number of parts of a batch of so many images, and return True; False if that is not possible any more."""
        if self._doublings == MOST_DOUBLINGS or batch % (2 * self.count):
            return False
        self._doublings, self.count = self._doublings + 1, 2 * self.count
        return True


@dataclass(frozen=True)
class LoopSettings:
    """What the training loop needs besides the network, the optimizer and the batches; the same in every epoch of a trial."""

    loss: Loss
    rate: Callable[[int, int], float]  # (0-based step of the trial, first step of the group) → factor on the group's peak learning rate
    thaw_step: int  # the body is frozen before this step, and its learning rate rises from it on
    clip_norm: float  # largest norm of the gradient; 0 does not clip
    mix: Mixing = NO_MIXING
    pull: PretrainedPull | None = None
    average: WeightAverage | None = None
    parts: MicroBatches = field(default_factory=lambda: MicroBatches(1))
    precision: Precision = FLOAT32
    world: World = ALONE
    at_boundary: bool = False  # whether the batches hold activations that `Network.to_boundary` returned instead of images


def train_epoch(
    network: Network, optimizer: torch.optim.Optimizer, batches: Iterable[Batch], settings: LoopSettings, *, first_step: int
) -> tuple[float, int]:
    """Train on the batches, one optimizer step each, and return (mean training loss, images trained on).

    `first_step` is the 0-based step of the trial that the first batch makes. In a world of several processes each has its own part of every
    batch; gradients, loss and count are those of the whole batches. A process that trains alone splits batches into more micro-batches if
    the GPU's memory does not hold them.
    Raises ``NonFiniteError`` in all processes, after the last batch, if the loss of any step was not a finite number.
    """
    total, images_seen, steps = torch.zeros(()), 0, 0
    trained = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    network.train()
    network.thaw(first_step >= settings.thaw_step)
    for step, (images, targets) in enumerate(batches, first_step):
        if step >= settings.thaw_step and not network.thawed:
            network.thaw(True)
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * settings.rate(step, settings.thaw_step if group["distance"] else 0)
        loss = _compute_gradients(network, *settings.mix(images, targets, step), settings)
        total = total.to(loss.device) + loss
        settings.world.average(parameter.grad for parameter in trained if parameter.grad is not None)
        if settings.pull:
            settings.pull.step()
        _update(trained, optimizer, settings)
        if settings.average:
            settings.average.update(step)
        images_seen, steps = images_seen + len(images) * settings.world.size, steps + 1
    settings.world.average([total])
    mean = float(total) / steps
    if not math.isfinite(mean):
        raise NonFiniteError(f"the training loss became {mean}; a lower learning rate or gradient clipping helps")
    return mean, images_seen


def _compute_gradients(network: Network, images: Tensor, targets: Tensor, settings: LoopSettings) -> Tensor:
    """Add the gradients of a batch to the parameters' `grad`, and return its mean loss. Splits the batch further if memory is short."""
    while True:
        try:
            return _accumulate_gradients(network, images, targets, settings)
        except torch.OutOfMemoryError:
            if settings.world.size > 1 or not settings.parts.double(len(images)):
                raise
        network.zero_grad(set_to_none=True)  # outside of the handler, whose traceback keeps the activations alive
        torch.cuda.empty_cache()


def _accumulate_gradients(network: Network, images: Tensor, targets: Tensor, settings: LoopSettings) -> Tensor:
    total, count, scaler = torch.zeros((), device=images.device), settings.parts.count, settings.precision.scaler
    for part, wanted in zip(images.chunk(count), targets.chunk(count), strict=True):
        with settings.precision.autocast(), fast_depthwise(part.device):
            logits = network.from_boundary(part) if settings.at_boundary else network(part)
        loss = settings.loss(logits, wanted) / count
        (scaler.scale(loss) if scaler else loss).backward()
        total = total + loss.detach()
    return total


def _update(trained: list[Tensor], optimizer: torch.optim.Optimizer, settings: LoopSettings) -> None:
    """Clip the gradients of the parameters that train, make one step of the optimizer, and clear the gradients."""
    scaler = settings.precision.scaler
    if scaler:
        scaler.unscale_(optimizer)
    if settings.clip_norm:
        torch.nn.utils.clip_grad_norm_(trained, settings.clip_norm)
    if scaler:
        scaler.step(optimizer)
        scaler.update()
    else:
        optimizer.step()
    optimizer.zero_grad(set_to_none=True)
