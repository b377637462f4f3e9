"""Gives the last stages of a body new random values in place of pretrained ones."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from trainables.networks.bodies import Body
from trainables.networks.heads import INITIALIZERS

NORMS = (_NormBase, nn.LayerNorm, nn.GroupNorm)


@contextmanager
def reinitialized(body: Body, stages: int, initializer: str) -> Iterator[None]:
    """Undo for the last `stages` stages of a new body what the block does to it, such as to load pretrained weights.

    Then the weights of their convolutions and linear layers are initialized as the entry of `INITIALIZERS` says and their biases are 0
    (`default`: the library's own values), norms change nothing, and the rest, such as layer scales, has the library's own initial values.
    """
    initial = [tensor.detach().clone() for tensor in _tensors(body, stages)]
    yield
    with torch.no_grad():
        for tensor, value in zip(_tensors(body, stages), initial, strict=True):
            tensor.copy_(value)
        for module in _modules(body, stages):
            if isinstance(module, NORMS):
                _make_neutral(module)
            elif isinstance(module, nn.modules.conv._ConvNd | nn.Linear):
                _initialize(module, initializer)


def _make_neutral(norm: Any) -> None:
    if norm.weight is not None:
        norm.weight.fill_(1)
    if norm.bias is not None:
        norm.bias.zero_()


def _initialize(layer: nn.modules.conv._ConvNd | nn.Linear, initializer: str) -> None:
    set_weight = INITIALIZERS[initializer]
    if set_weight is not None:
        set_weight(layer.weight)
        if layer.bias is not None:
            layer.bias.zero_()


def _blocks(body: Body, stages: int) -> Iterator[Any]:
    for stage in body.stages[len(body.stages) - stages :]:
        yield from stage


def _tensors(body: Body, stages: int) -> Iterator[Tensor]:
    for block in _blocks(body, stages):
        yield from (*block.parameters(), *block.buffers())


def _modules(body: Body, stages: int) -> Iterator[nn.Module]:
    for block in _blocks(body, stages):
        yield from block.modules()
