"""Body and head as one network: which stages train, how batch norm behaves, which learning rate each parameter has."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from trainables.distributed.world import ALONE, World
from trainables.errors import ConfigError
from trainables.networks.bodies import Body

MIN_BATCH_FOR_STATISTICS = 16
MATRICES = (2, 4)
"""Number of axes of the weights of linear layers and of convolutions; only these have weight decay."""


class Network(nn.Module):
    """A fine-tuned network: normalised images `(N, 3, S, S)` → logits `(N, outputs)`.

    The body is frozen until `thaw`. Then its last `unfrozen_stages` stages train. The others run in evaluation mode without gradients, and
    their batch-norm statistics do not change. Without `batch_norm_trains` all batch norm runs in evaluation mode.
    Raises ``ConfigError`` for more unfrozen stages than the body has.
    """

    def __init__(self, body: Body, head: nn.Module, *, unfrozen_stages: int, batch_norm_trains: bool = True) -> None:
        if unfrozen_stages > len(body.stages):
            raise ConfigError(f"unfrozen_stages must be at most {len(body.stages)}, the stages of this backbone, but got {unfrozen_stages}")
        super().__init__()
        self.body = body
        self.head = head
        self.unfrozen_stages = unfrozen_stages
        self.batch_norm_trains = batch_norm_trains
        self.thawed = False
        self.thaw(False)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits `(N, outputs)` in float32. The head runs in float32 also under autocast: bfloat16 has ties and coarse values."""
        return self._classify(self.body(images))

    @property
    def boundary(self) -> int:
        """The 0-based stage whose input never changes while the network trains, because all stages before it stay frozen.

        It is 0 for a body that cannot be run in parts, unless the whole body stays frozen.
        """
        frozen = len(self.body.stages) - self.unfrozen_stages
        return frozen if self.body.runs_in_parts or not self.unfrozen_stages else 0

    def to_boundary(self, images: Tensor) -> Tensor:
        """Return the input of the stage `boundary` for images `(N, 3, S, S)`: activations, or pooled features `(N, width)`."""
        return self.body.forward_to(self.boundary, images)

    def from_boundary(self, activations: Tensor) -> Tensor:
        """Return logits `(N, outputs)` in float32 from the result of `to_boundary`."""
        return self._classify(self.body.forward_from(self.boundary, activations))

    def thaw(self, thawed: bool) -> None:
        """Let the unfrozen stages train from the next step on, or (with False) freeze the whole body. The head always trains."""
        self.thawed = thawed
        self.body.requires_grad_(False)
        for stage in self._training_stages():
            for block in stage:
                block.requires_grad_(True)
        self.train(self.training)

    def train(self, mode: bool = True) -> "Network":
        """Set training mode (or with False evaluation mode) and return the network itself.

        Frozen stages, and batch norm that does not train, stay in evaluation mode.
        """
        super().train(mode)
        self.body.eval()
        if mode:
            for stage in self._training_stages():
                for block in stage:
                    block.train()
            if not self.batch_norm_trains:
                for norm in self._norms():
                    norm.eval()
        return self

    def parameter_groups(self, learning_rate: float, stage_lr_decay: float, weight_decay: float) -> list[dict[str, Any]]:
        """Return the optimizer's groups, with the keys `params`, `lr`, `peak`, `distance` and `weight_decay`. Frozen stages are in none.

        The head has the rate `learning_rate`, each stage `stage_lr_decay` times the rate of the part after it. `peak` keeps this rate while
        schedules change `lr`. `distance` says how far the group is from the head: 0 is the head, 1 the last stage. Only weights of linear
        layers and convolutions have weight decay; biases, norms and layer scales have none.
        """
        parts: list[tuple[float, Iterable[nn.Parameter]]] = [(learning_rate, self.head.parameters())]
        for distance, stage in enumerate(reversed(self.body.stages[len(self.body.stages) - self.unfrozen_stages :]), 1):
            parts.append((learning_rate * stage_lr_decay**distance, (p for block in stage for p in block.parameters())))
        groups = []
        for distance, (rate, parameters) in enumerate(parts):
            listed = list(parameters)
            decayed, plain = [p for p in listed if p.ndim in MATRICES], [p for p in listed if p.ndim not in MATRICES]
            for decay, chosen in ((weight_decay, decayed), (0.0, plain)):
                if chosen:
                    groups.append({"params": chosen, "lr": rate, "peak": rate, "distance": distance, "weight_decay": decay})
        return groups

    def trained_state(self) -> dict[str, Tensor]:
        """Return the tensors that training can change, by their keys in `state_dict`; they are not copies.

        These are the head and the unfrozen stages, including their batch-norm statistics, whether the body is thawed or not.
        """
        kept = {id(t) for s in self._unfrozen() for block in s for t in (*block.parameters(), *block.buffers())}
        kept |= {id(t) for t in self.head.parameters()}
        return {name: tensor for name, tensor in self.state_dict(keep_vars=True).items() if id(tensor) in kept}

    def trainable_parameters(self) -> int:
        """Return the number of single values, not tensors, that train once the body is thawed."""
        return sum(t.numel() for t in self.trained_state().values() if isinstance(t, nn.Parameter))

    @property
    def needs_statistics(self) -> bool:
        """Whether batch norm trains now, so that its running statistics have to be recomputed before an evaluation."""
        return self.thawed and self.batch_norm_trains and any(True for _ in self._norms())

    @torch.no_grad()
    def recompute_statistics(self, batches: Iterable[Tensor], world: World = ALONE) -> None:
        """Replace the running statistics of unfrozen batch norm by plain averages over batches, which `to_boundary` returned.

        A running average lags behind the weights, and augmented images differ from those of evaluation
        (Wu & Johnson 2021, "Rethinking Batch in BatchNorm", section 3). Does nothing unless `needs_statistics`. Leaves evaluation mode on.
        In a `world` of several processes each has its own batches, and all get the averages over all batches.
        """
        if not self.needs_statistics:
            return
        norms = list(self._norms())
        with _plain_averages(norms):
            self.eval()
            for norm in norms:
                norm.train()
            for activations in batches:
                self.body.forward_from(self.boundary, activations)
            self.eval()
        if world.size > 1:
            _average_over_processes(norms, world)

    def _classify(self, features: Tensor) -> Tensor:
        with torch.autocast(features.device.type, enabled=False):
            logits: Tensor = self.head(features.float())
        return logits

    def _unfrozen(self) -> Iterator[Any]:
        yield from self.body.stages[len(self.body.stages) - self.unfrozen_stages :]

    def _training_stages(self) -> Iterator[Any]:
        if self.thawed:
            yield from self._unfrozen()

    def _norms(self) -> Iterator[_BatchNorm]:
        for stage in self._unfrozen():
            for block in stage:
                yield from (m for m in block.modules() if isinstance(m, _BatchNorm))


@contextmanager
def _plain_averages(norms: list[_BatchNorm]) -> Iterator[None]:
    """Reset the running statistics of layers. While the block runs, they are plain averages over its batches (momentum None).

    The layers get their momentum back at the end; the averages stay.
    """
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum


def _average_over_processes(norms: list[_BatchNorm], world: World) -> None:
    """Replace the running statistics, averages over this process's batches, by the averages over the batches of all processes, in place.

    A process may have had no batch. Every process must call this.
    """
    statistics: list[tuple[Any, Any, Any]] = [(norm.running_mean, norm.running_var, norm.num_batches_tracked) for norm in norms]
    for mean, variance, count in statistics:
        mean *= count
        variance *= count
    world.sum(tensor for triple in statistics for tensor in triple)
    for mean, variance, count in statistics:
        mean /= count
        variance /= count
