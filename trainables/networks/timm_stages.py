"""Divides a network of timm into stages, by timm's own groups of parameters."""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from itertools import takewhile
from typing import Any

from torch import nn

from trainables.networks.backbone_row import Stages

MOST_STAGES = 6
FEWEST_STAGES = 3
RUNS = 4
"""Stages of a network whose blocks have the same stride, such as a ViT."""


def timm_stages(network: Any) -> Stages:
    """Return the stages of a network, as dotted names of modules and of parameters that no named module holds.

    The groups are those of ``group_matcher(coarse=True)``. Where they are more than `MOST_STAGES`, those up to the end of a reduction in
    ``feature_info`` are one stage. Where these would be fewer than `FEWEST_STAGES`, the stages are `RUNS` runs of equally many groups. The
    stem belongs to the first run, and norms at the end to the last stage.
    """
    from timm.models import group_parameters

    groups: dict[str, int] = group_parameters(network, network.group_matcher(coarse=True), reverse=True)
    last = max(groups.values())
    if all(parameter.ndim < 2 for name, parameter in network.named_parameters() if groups[name] == last):
        last -= 1
        groups = {name: min(group, last) for name, group in groups.items()}
    ends = _ends(network, groups, last)
    return _parts(network, {name: bisect_left(ends, group) for name, group in groups.items()}, len(ends))


def _ends(network: Any, groups: Mapping[str, int], last: int) -> Sequence[int]:
    """Return the last group of each stage, in increasing order; `last` is the last group of all."""
    if last < MOST_STAGES:
        return range(last + 1)
    of_reduction = {feature["reduction"]: _last_group(network, groups, feature["module"]) for feature in list(network.feature_info)}
    ends = sorted({*list(of_reduction.values())[:-1], last})
    return ends if len(ends) >= FEWEST_STAGES else [round(last * run / RUNS) for run in range(1, RUNS + 1)]


def _last_group(network: nn.Module, groups: Mapping[str, int], path: str) -> int:
    """Return the last group that has parameters of the module at `path`; if it has none, the last of the modules before it."""
    inside = [group for name, group in groups.items() if name.startswith(f"{path}.")]
    before = [module for name, module in takewhile(lambda named: named[0] != path, network.named_modules()) if name]
    group_of = {id(parameter): groups[name] for name, parameter in network.named_parameters()}
    return max(inside or [group_of[id(parameter)] for module in before for parameter in module.parameters(recurse=False)], default=0)


def _parts(network: nn.Module, stage_of: Mapping[str, int], count: int) -> Stages:
    """Return for each stage the largest modules whose parameters all belong to it, and the parameters that are in none of these.

    A module without parameters, such as dropout, belongs to the stage of the module before it.
    """
    stage_of_id = {id(parameter): stage_of[name] for name, parameter in network.named_parameters()}
    stages: list[list[str]] = [[] for _ in range(count)]

    def visit(path: str, module: nn.Module, before: int) -> int:
        inside = {stage_of_id[id(parameter)] for parameter in module.parameters()}
        if len(inside) < 2:
            stage = inside.pop() if inside else before
            stages[stage].append(path)
            return stage
        for name, _ in module.named_parameters(path, recurse=False):
            stages[stage_of[name]].append(name)
        for name, child in module.named_children():
            before = visit(f"{path}.{name}".lstrip("."), child, before)
        return before

    visit("", network, 0)
    return tuple(tuple(stage) for stage in stages)
