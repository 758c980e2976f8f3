"""How wide each layer shall be: the work that uniform pruning leaves, spent where the loss needs it most."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from quatrain.core.errors import require

if TYPE_CHECKING:
    import torch
    from torch import nn

# Shares of a group's channels that it is left with, alone, to see what that costs.
_TRIED = (0.75, 0.5, 0.25, 0.1)
_EXTRA = "quatrain-core[compress]"

# narrow(module, widths by layer) takes channels off a module in place.
Narrow = Callable[["nn.Module", Mapping[str, int]], None]


@dataclass
class Group:
    """Layers that must keep one width, and those that read what they give."""

    names: list[str]
    width: int
    # Of each layer that reads this group, the share of its inputs that come from here.
    readers: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Work:
    """Multiply-accumulates of a module's convolutions and linear layers for one row, as its groups get narrower."""

    groups: Sequence[Group]
    # Of each layer at its full width.
    macs: Mapping[str, float]
    depthwise: frozenset[str]

    def at(self, widths: Sequence[int]) -> float:
        """Return the work where the groups have these widths."""
        given = dict.fromkeys(self.macs, 1.0)
        read = dict.fromkeys(self.macs, 1.0)
        for group, width in zip(self.groups, widths, strict=True):
            left = width / group.width
            for name in group.names:
                if name in given:
                    given[name] = left
            for name, share in group.readers.items():
                if name in read and name not in self.depthwise:
                    read[name] -= share * (1 - left)
        return sum(macs * given[name] * read[name] for name, macs in self.macs.items())


@dataclass(frozen=True)
class Curve:
    """What a group's width costs: measured at some widths, rising towards fewer channels, straight in between."""

    widths: Sequence[int]
    losses: Sequence[float]

    def __call__(self, width: int) -> float:
        """Return the loss added at this width."""
        return float(np.interp(width, self.widths[::-1], self.losses[::-1]))


def groups_of(module: nn.Module, example: tuple[torch.Tensor, ...], keep: Sequence[str]) -> list[Group]:
    """Return the groups of layers that must keep one width, but for layers in `keep`."""
    torch_pruning = require("torch_pruning", package=_EXTRA)
    module.eval()
    graph = torch_pruning.DependencyGraph().build_dependency(module, example_inputs=example)
    names = {layer: name for name, layer in module.named_modules()}
    groups = []
    for found in graph.get_all_groups(ignored_layers=[module.get_submodule(name) for name in keep]):
        group = Group(names=[], width=0)
        for dependency, places in found:
            layer = dependency.target.module
            if layer not in names or getattr(layer, "weight", None) is None:
                continue
            if graph.is_out_channel_pruning_fn(dependency.handler):
                group.names.append(names[layer])
            elif graph.is_in_channel_pruning_fn(dependency.handler):
                group.readers[names[layer]] = len(places) / _inputs_of(layer)
        group.width = len(module.get_parameter(f"{group.names[0]}.weight"))
        groups.append(group)
    return groups


def work_of(module: nn.Module, example: tuple[torch.Tensor, ...], groups: Sequence[Group]) -> Work:
    """Return the work of the module on one row of `example`."""
    import torch
    from torch import nn

    macs: dict[str, float] = {}
    hooks = []
    for name, layer in module.named_modules():
        if not isinstance(layer, nn.Linear | nn.modules.conv._ConvNd):
            continue

        def count(layer: nn.Module, _: object, output: torch.Tensor, name: str = name) -> None:
            weight = layer.get_parameter("weight")
            macs[name] = macs.get(name, 0.0) + output.numel() / len(output) * weight.numel() / len(weight)

        hooks.append(layer.register_forward_hook(count))
    try:
        with torch.no_grad():
            module.eval()(*example)
    finally:
        for hook in hooks:
            hook.remove()
    depthwise = {name for name in macs if getattr(module.get_submodule(name), "groups", 1) > 1}
    return Work(groups, macs, frozenset(depthwise))


def curves_of(
    module: nn.Module, groups: Sequence[Group], loss: Callable[[nn.Module], float], narrow: Narrow, *, round_to: int
) -> list[Curve]:
    """Return what each group's width costs in loss, each narrowed alone and untrained."""
    full = loss(module)
    curves = []
    for group in groups:
        widths, losses = [group.width], [0.0]
        for kept in _TRIED:
            width = rounded(group.width, kept, round_to)
            if width >= widths[-1]:
                continue
            trial = copy.deepcopy(module)
            narrow(trial, dict.fromkeys(group.names, width))
            widths.append(width)
            # A lucky trial is no reason to take more: costs never fall.
            losses.append(max(losses[-1], loss(trial) - full))
        curves.append(Curve(widths, losses))
    return curves


def allot(work: Work, curves: Sequence[Curve], *, target: float, round_to: int) -> list[int]:
    """Return widths whose work is `target` or less, at little loss.

    The cheapest channels go first: each time `round_to` of the group that loses least for the work saved.
    """
    widths = [curve.widths[0] for curve in curves]
    while work.at(widths) > target:
        now = work.at(widths)
        best: tuple[float, float, int, int] | None = None
        for place, curve in enumerate(curves):
            fewer = (widths[place] - 1) // round_to * round_to
            if fewer < curve.widths[-1]:
                continue
            saved = now - work.at([*widths[:place], fewer, *widths[place + 1 :]])
            if saved <= 0:
                continue
            offer = ((curve(fewer) - curve(widths[place])) / saved, -saved, place, fewer)
            best = offer if best is None else min(best, offer)
        if best is None:
            break
        widths[best[2]] = best[3]
    return widths


def rounded(width: int, kept: float, round_to: int) -> int:
    """Return the nearest multiple of `round_to` to the share that is kept: at least one, all there is for 1."""
    return width if kept >= 1 else min(width, max(round_to, round(width * kept / round_to) * round_to))


def _inputs_of(layer: nn.Module) -> int:
    """Return how many channels a layer reads."""
    weight = layer.get_parameter("weight")
    return int(weight.shape[1]) * int(getattr(layer, "groups", 1)) if weight.ndim > 1 else len(weight)
