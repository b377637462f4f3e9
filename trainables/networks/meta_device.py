"""Builds networks with shapes but without values, in little time and memory."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.module import register_module_buffer_registration_hook, register_module_parameter_registration_hook


@contextmanager
def without_values() -> Iterator[None]:
    """Put every parameter and buffer of the modules that the block builds on the meta device.

    ``torch.device("meta")`` would not work for all: RegNet computes its widths with tensors while it is built.
    """

    def empty(module: nn.Module, name: str, tensor: Tensor | None) -> Any:
        return None if tensor is None or tensor.is_meta else tensor.to("meta")

    def empty_parameter(module: nn.Module, name: str, parameter: nn.Parameter | None) -> Any:
        return None if parameter is None or parameter.is_meta else nn.Parameter(parameter.detach().to("meta"))

    hooks = register_module_parameter_registration_hook(empty_parameter), register_module_buffer_registration_hook(empty)
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
