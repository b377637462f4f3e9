"""A table of optimizers and a table of learning rate schedules."""

import math
from collections.abc import Callable
from typing import Any

import torch

Schedule = Callable[[float], float]
"""Share of the schedule in [0, 1] → factor on the peak learning rate."""


def cosine(progress: float) -> float:
    """Return a factor that falls from 1 to 0 along half a cosine (Loshchilov & Hutter 2017)."""
    return 0.5 * (1 + math.cos(math.pi * progress))


def one_cycle(progress: float) -> float:
    """Return a factor that rises from 1/25 to 1 at 30 %, then falls to 1/250,000, both along half a cosine.

    These are the defaults of torch's `OneCycleLR` (Smith & Topin 2018).
    """
    low, peak_at, last = 1 / 25, 0.3, 1 / 25e4
    if progress < peak_at:
        return low + (1 - low) * (1 - cosine(progress / peak_at))
    return last + (1 - last) * cosine((progress - peak_at) / (1 - peak_at))


def step(progress: float) -> float:
    """Return a factor that falls from 1 to a tenth at one half, and to a hundredth at three quarters (He et al. 2016, CIFAR-10)."""
    return 0.1 ** ((progress >= 0.5) + (progress >= 0.75))


SCHEDULES: dict[str, Schedule] = {"cosine": cosine, "one_cycle": one_cycle, "step": step, "constant": lambda progress: 1.0}
WARMS_UP = {"one_cycle"}
"""Schedules that begin with a rise of their own; the warm-up does not apply to them."""


def learning_rate_factor(schedule: str, warmup: float, step: int, first: int = 0, *, steps: int) -> float:
    """Return the factor on the peak learning rate at 0-based `step` of `steps`: a linear rise over the warm-up, times the schedule.

    `schedule` is a name in `SCHEDULES`, which begins after the warm-up of a parameter that trains from the first step on; `warmup` is a
    share of all steps. For a parameter that trains from the step `first` on, the rise begins there, and the factor is 0 before.
    """
    warm = round(warmup * steps)
    begins = 0 if schedule in WARMS_UP else warm
    rises = warm if begins or first else 0
    rise = min(1.0, max(0, step - first + 1) / (rises + 1))
    return rise * SCHEDULES[schedule](max(0, step - begins) / max(1, steps - begins))


OPTIMIZERS: dict[str, Callable[[list[dict[str, Any]], float], torch.optim.Optimizer]] = {
    "adamw": lambda groups, momentum: torch.optim.AdamW(groups, fused=True),
    "sgd": lambda groups, momentum: torch.optim.SGD(groups, momentum=momentum, nesterov=momentum > 0, fused=True),
    "rmsprop": lambda groups, momentum: torch.optim.RMSprop(groups, alpha=0.9, eps=1e-3, momentum=momentum),
}
"""Name → (parameter groups with their own `lr` and `weight_decay`, momentum) → optimizer.
RMSprop's decay 0.9 and epsilon 1e-3 are those of MobileNet and EfficientNet (Tan & Le 2019)."""
