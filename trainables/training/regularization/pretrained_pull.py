"""`PretrainedPull`, a decay of the body's weights towards their pretrained values instead of 0 (L2-SP)."""

import torch

from trainables.networks.model import MATRICES


class PretrainedPull:
    """Moves the weights of the unfrozen body towards their values at the time that this is made; with `strength` 0 it does nothing.

    L2-SP of Li et al. 2018, "Explicit Inductive Bias for Transfer Learning with Convolutional Networks", decoupled from the gradient in the
    way of AdamW (Loshchilov & Hutter 2019): each step moves the share learning rate × strength of the way, at most all of it.
    It applies to weights of linear layers and convolutions, as weight decay does, but not to the last `new_stages` stages, which have no
    pretrained values. `optimizer` has the groups of `Network.parameter_groups`.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, strength: float, *, new_stages: int = 0) -> None:
        self._optimizer, self._strength = optimizer, strength
        self._pretrained = {
            index: [parameter.detach().clone() for parameter in group["params"]]
            for index, group in enumerate(optimizer.param_groups)  # by number: loading a state replaces the groups
            if strength and group["distance"] > new_stages and group["params"][0].ndim in MATRICES
        }

    @torch.no_grad()
    def step(self) -> None:
        """Move the weights, by the learning rates that the optimizer's groups have now."""
        for index, values in self._pretrained.items():
            group = self._optimizer.param_groups[index]
            torch._foreach_lerp_(group["params"], values, min(1.0, group["lr"] * self._strength))
