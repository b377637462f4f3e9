"""The number formats of a forward pass: bfloat16 or float16 where the GPU computes with them, else float32."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch

Autocast = Callable[[], AbstractContextManager[None]]


@dataclass(frozen=True)
class Precision:
    """How the body of a network computes: the context of its forward passes, and what scales the loss for its gradients."""

    autocast: Autocast = nullcontext
    scaler: torch.amp.GradScaler | None = None  # only for float16, whose small gradients would become 0


FLOAT32 = Precision()


def precision_on(device: torch.device) -> Precision:
    """Return bfloat16 for GPUs that compute with it, float16 with a scaled loss for other GPUs, and float32 for CPUs.

    A GPU that only emulates bfloat16, such as a T4, would be slower with it than with float32.
    """
    if device.type != "cuda":
        return FLOAT32
    if torch.cuda.is_bf16_supported(including_emulation=False):
        return Precision(lambda: torch.autocast("cuda", torch.bfloat16))
    return Precision(lambda: torch.autocast("cuda", torch.float16), torch.amp.GradScaler("cuda"))
