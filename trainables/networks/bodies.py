"""The body of a network: torchvision's or timm's own modules in stages, without the classifier; and functions that build one."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torchvision
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, relu
from torch.nn.modules.module import register_module_buffer_registration_hook, register_module_parameter_registration_hook

from trainables.networks.backbone_row import Backbone
from trainables.networks.backbones import backbone
from trainables.networks.timm_models import build_timm_network

BATCH_NORM_MOMENTUM = 0.1
POOLINGS: dict[str, Callable[[Tensor], Tensor]] = {
    "average": lambda maps: adaptive_avg_pool2d(maps, 1).flatten(1),
    "relu_average": lambda maps: adaptive_avg_pool2d(relu(maps), 1).flatten(1),
}
HEADS = ("classifier", "fc")
BUILD_OPTIONS: dict[str, dict[str, Any]] = {
    "googlenet": {"aux_logits": False, "init_weights": True},
    "inception": {"aux_logits": False, "init_weights": True},
}


class Body(nn.Module):
    """Images → pooled features, in stages that can be frozen and, where ``runs_in_parts``, run separately.

    ``trunk`` is the library's network without its head, so it has the library's keys. ``stages`` holds references to its modules and loose
    parameters, and covers each of its parameters once. The pooling belongs to the last stage.
    """

    def __init__(self, row: Backbone, trunk: nn.Module, image_size: int | None = None) -> None:
        super().__init__()
        self.trunk = trunk
        self.width = row.width
        self.image_size = image_size  # side of the images that a network of fixed input size is built for, pixels; None: the native one
        self.runs_in_parts = row.runs_in_parts  # whether `forward_to` and `forward_from` work for every stage
        self.stages = tuple(_stage(trunk, names) for names in row.stages)
        self._pooling = row.pooling

    def forward(self, images: Tensor) -> Tensor:
        """Return the features `(N, width)` of normalised images `(N, 3, H, W)`."""
        return self.forward_from(0, images)

    def forward_to(self, stage: int, images: Tensor) -> Tensor:
        """Return the input `(N, C, H, W)` of the 0-based `stage`; for `stage` = the number of stages, the features `(N, width)`."""
        return self._run(0, stage, images)

    def forward_from(self, stage: int, activations: Tensor) -> Tensor:
        """Return the features `(N, width)` from the result of ``forward_to`` for the same stage."""
        return self._run(stage, len(self.stages), activations)

    def forward_between(self, first: int, last: int, activations: Tensor) -> Tensor:
        """Return the input of the stage `last`, as ``forward_to`` does, from the input of the stage `first` before it."""
        return self._run(first, last, activations)

    def _run(self, first: int, last: int, activations: Tensor) -> Tensor:
        """Run the stages from `first` to before `last`. A network that does not run in parts runs whole or not at all."""
        if not self.runs_in_parts and first < last:
            assert (first, last) == (0, len(self.stages)), "this network does not run in parts"
            features: Tensor = self.trunk(activations)
            return features
        for stage in self.stages[first:last]:
            for module in stage:
                activations = module(activations)
        return POOLINGS[self._pooling](activations) if first < last == len(self.stages) else activations


def _stage(trunk: nn.Module, names: tuple[str, ...]) -> nn.ModuleList:
    """Return the modules and parameters of a network with these dotted names. The parameters are in one list at the end."""
    parameters = [trunk.get_parameter(name) for name in names if _is_parameter(trunk, name)]
    modules = [trunk.get_submodule(name) for name in names if not _is_parameter(trunk, name)]
    return nn.ModuleList([*modules, nn.ParameterList(parameters)] if parameters else modules)


def _is_parameter(trunk: nn.Module, name: str) -> bool:
    holder, _, last = name.rpartition(".")
    return last in trunk.get_submodule(holder)._parameters


def build_body(name: str, image_size: int | None = None) -> Body:
    """Return the body of a backbone with the library's random initialisation. Raises ``ConfigError`` for an unknown name.

    A network of fixed input size, such as a ViT, is built for images of `image_size` pixels, else of its native size.
    Batch norms have momentum 0.1: torchvision's MobileNetV3 has 0.01 and MNASNet 0.0003, which is too little for a few hundred steps.
    """
    row = backbone(name)
    trunk = build_timm_network(row, image_size) if row.timm_name else _build_torchvision_network(row)
    for module in trunk.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = BATCH_NORM_MOMENTUM
    return Body(row, trunk, image_size if row.fixed_size else None)


def build_empty_body(name: str) -> Body:
    """Return the body of a backbone on the meta device, with shapes but no values. Raises as `build_body` does.

    It is built in little time and memory.
    """
    with torch.device("meta") if backbone(name).timm_name else _without_values():
        return build_body(name)


@contextmanager
def _without_values() -> Iterator[None]:
    """Put every parameter and buffer of the modules that the block builds on the meta device.

    ``torch.device("meta")`` would not work for torchvision: its RegNet computes widths with tensors while it is built.
    """

    def empty(module: nn.Module, name: str, tensor: Tensor | None) -> Any:
        return None if tensor is None else tensor.to("meta")

    def empty_parameter(module: nn.Module, name: str, parameter: nn.Parameter | None) -> Any:
        return None if parameter is None else nn.Parameter(parameter.detach().to("meta"))

    hooks = register_module_parameter_registration_hook(empty_parameter), register_module_buffer_registration_hook(empty)
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _build_torchvision_network(row: Backbone) -> nn.Module:
    """Return torchvision's network of a backbone without classifier."""
    network: Any = torchvision.models.get_model(row.name, weights=None, **BUILD_OPTIONS.get(row.family, {}))
    if "classifier.0" in row.stages[-1]:
        network.classifier = network.classifier[:1]
    else:
        for head in HEADS:
            if hasattr(network, head):
                setattr(network, head, nn.Identity())
    trunk: nn.Module = network
    return trunk
