"""`WeightAverage`, an exponential moving average of the weights that train (EMA), which replaces them wherever a network is used."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from trainables.distributed.world import World
from trainables.networks.model import Network


class WeightAverage:
    """Averages the parameters of a network over the steps of a trial; with `decay` 0 it does nothing.

    Between epochs the network holds the average, so evaluation, export and saved states have it; in `training` the network holds the
    weights that train. The decay of a step is min(decay, (1 + step) / (10 + step)), as in TensorFlow's ``ExponentialMovingAverage`` with
    ``num_updates``: the initial weights are forgotten within some steps, so that short trials can be averaged too.
    """

    def __init__(self, network: Network, decay: float) -> None:
        self._network, self._decay = network, decay
        self._averages: list[Tensor] = []
        self.live: dict[str, Tensor] | None = None
        """The weights to train on from, by their names in the network, while that holds the average; None before the first epoch."""

    @contextmanager
    def training(self, world: World) -> Iterator[None]:
        """Put the weights that train into the network, and at the end of the block their average.

        Every process of a world must call this; all begin with the average of rank 0.
        """
        if not self._decay:
            yield
            return
        named = self._parameters()
        self._averages = [parameter.detach().clone() for parameter in named.values()]
        world.broadcast(self._averages)
        with torch.no_grad():
            for name, weight in (self.live or {}).items():
                named[name].copy_(weight)
        yield
        self.live = {name: parameter.detach().clone() for name, parameter in named.items()}
        with torch.no_grad():
            torch._foreach_copy_(list(named.values()), self._averages)

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Add the weights after the 0-based `step` of the trial to the average."""
        if self._decay:
            decay = min(self._decay, (1 + step) / (10 + step))
            torch._foreach_lerp_(self._averages, list(self._parameters().values()), 1 - decay)

    def _parameters(self) -> dict[str, nn.Parameter]:
        return {name: tensor for name, tensor in self._network.trained_state().items() if isinstance(tensor, nn.Parameter)}
