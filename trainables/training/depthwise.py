"""`FastDepthwise`, which computes the weight gradients of wide depthwise convolutions on a CPU in narrow parts."""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad
from torch.overrides import TorchFunctionMode

NARROW = 3
"""Columns of a kernel whose gradients are computed together. torch's CPU kernel for depthwise convolutions is fast up to this width.

With torch 2.15, 1,152 channels of 3 × 3 places and 32 images, a kernel of 5 × 5 takes 8.9 ms and one of 5 × 3 takes 0.3 ms.
"""
PART_BYTES = 1 << 20
"""Images whose activations take at most so much are computed together, so that they stay in the CPU's cache."""
Arguments = tuple[Tensor, Tensor, Tensor | None, tuple[int, int], tuple[int, int]]  # images, weight, bias, stride, padding


def fast_depthwise(device: torch.device) -> AbstractContextManager[Any]:
    """Return the context for forward passes that are followed by a backward pass: `FastDepthwise` on a CPU, else one without effect."""
    return FastDepthwise() if device.type == "cpu" else nullcontext()


class FastDepthwise(TorchFunctionMode):
    """While the block runs, depthwise convolutions wider than `NARROW` get a backward pass of their own.

    Values and gradients are those of `torch.conv2d` except for rounding. Other convolutions are unchanged.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Call `func`, or for a wide depthwise convolution that trains the autograd function of this module."""
        if func is torch.conv2d and not kwargs and (wide := _wide_depthwise(*args)):
            return _Convolution.apply(*wide)
        return func(*args, **(kwargs or {}))


def _wide_depthwise(
    images: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1
) -> Arguments | None:
    """Return the arguments of a convolution that `FastDepthwise` computes, None for any other. They are those of `torch.conv2d`."""
    depthwise = groups == weight.shape[0] == images.shape[-3] and images.ndim == 4 and groups > 1
    wide = weight.shape[3] > NARROW and weight.requires_grad and torch.is_grad_enabled()
    if not (depthwise and wide) or isinstance(padding, str) or _pair(dilation) != (1, 1):
        return None
    if any(tensor is not None and tensor.dtype != torch.float32 for tensor in (images, weight, bias)):
        return None
    return images, weight, bias, _pair(stride), _pair(padding)


def _pair(value: Any) -> tuple[int, int]:
    first, last = (value, value) if isinstance(value, int) else (value[0], value[-1])
    return int(first), int(last)


class _Convolution(torch.autograd.Function):
    """A depthwise convolution whose weight gradient is computed by `weight_gradient`."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor, bias: Tensor | None, stride: tuple[int, int], padding: tuple[int, int]) -> Tensor:
        ctx.save_for_backward(images, weight)
        ctx.stride, ctx.padding, ctx.bias = stride, padding, bias is not None
        return torch.conv2d(images, weight, bias, stride, padding, 1, weight.shape[0])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor, Tensor | None, None, None]:
        images, weight = ctx.saved_tensors
        needs_bias = ctx.bias and ctx.needs_input_grad[2]
        of_images = (
            _gradients(gradient, images, weight, ctx.stride, ctx.padding, (True, False, False))[0] if ctx.needs_input_grad[0] else None
        )
        of_bias = gradient.sum((0, 2, 3)) if needs_bias else None
        return of_images, weight_gradient(gradient, images, weight, ctx.stride, ctx.padding), of_bias, None, None


def weight_gradient(gradient: Tensor, images: Tensor, weight: Tensor, stride: tuple[int, int], padding: tuple[int, int]) -> Tensor:
    """Return the gradient `(C, 1, K, L)` of a depthwise convolution's weight, computed in parts of a few images and `NARROW` columns.

    `gradient` `(N, C, H', W')` is that of its result for `images` `(N, C, H, W)`.
    """
    count = max(1, PART_BYTES // max(1, images[0].numel() * images.element_size()))
    return torch.stack(
        [_in_columns(some, few, weight, stride, padding) for some, few in zip(gradient.split(count), images.split(count), strict=True)]
    ).sum(0)


def _in_columns(gradient: Tensor, images: Tensor, weight: Tensor, stride: tuple[int, int], padding: tuple[int, int]) -> Tensor:
    rows, columns = weight.shape[2:]
    down, right = ((length - 1) * step for length, step in zip(gradient.shape[2:], stride, strict=True))  # places of the last result
    parts = []
    for first in range(0, columns, NARROW):
        narrow = weight[..., first : first + NARROW]
        seen = _window(images, (-padding[0], down + rows), (first - padding[1], right + narrow.shape[3]))
        found = torch.zeros_like(narrow) if seen is None else _gradients(gradient, seen, narrow, stride, (0, 0), (False, True, False))[1]
        parts.append(found)
    return torch.cat(parts, dim=3)


def _window(images: Tensor, rows: tuple[int, int], columns: tuple[int, int]) -> Tensor | None:
    """Return a part of the images, with zeros where it lies outside of them; None if it does so completely.

    `rows` and `columns` are where it begins, which may be negative, and how many it has.
    """
    inside, margins = [], list[int]()
    for (start, count), size in zip((rows, columns), images.shape[2:], strict=True):
        first, end = max(start, 0), min(start + count, size)
        if first >= end:
            return None
        inside.append(slice(first, end))
        margins = [first - start, start + count - end, *margins]  # `pad` wants the last dimension first
    return pad(images[:, :, *inside], margins)


def _gradients(
    gradient: Tensor,
    images: Tensor,
    weight: Tensor,
    stride: tuple[int, int],
    padding: tuple[int, int],
    wanted: tuple[bool, bool, bool],
) -> list[Any]:
    """Return torch's gradients of images, weight and bias of a depthwise convolution, each if `wanted`, else None."""
    return list(
        torch.ops.aten.convolution_backward(gradient, images, weight, None, stride, padding, (1, 1), False, (0, 0), weight.shape[0], wanted)
    )
