"""Structured pruning: whole channels go, with everything that depended on them, and training mends the rest.

The groups of layers that must lose the same channels are found by torch-pruning (Fang et al.,
"DepGraph: Towards Any Structural Pruning", CVPR 2023).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from quatrain.core.compression.artifact import Artifact, Step
from quatrain.core.compression.gate import Promise, RefusedError
from quatrain.core.compression.modules import exported, require_module
from quatrain.core.errors import require

if TYPE_CHECKING:
    import torch
    from torch import nn

    from quatrain.core.compression.retraining import TrainingRows

# A group that is hardly missed loses up to this share more channels than asked, the most missed one as much less.
_TILT = 0.5
# No group loses more of its channels than this.
_MOST = 0.9
_EXCESS = 0.01


@dataclass(frozen=True, kw_only=True, eq=False)
class Prune:
    """Remove the share `ratio` of each layer's channels, in rounds with training after each.

    With `score` (larger is better, on training rows), groups that are missed most keep more: each is
    pruned alone once, untrained, and ranked by what that costs. Layers named in `keep` keep their
    width, as must the one that gives the logits.
    """

    ratio: float
    training: TrainingRows
    keep: tuple[str, ...]
    rounds: int = 1
    # Widths stay multiples of this: kernels compute in vectors.
    round_to: int = 8
    score: Callable[[nn.Module], float] | None = None

    promise = Promise()

    def __post_init__(self) -> None:
        """Refuse what leaves nothing, or prunes nothing."""
        if not 0 < self.ratio < 1 or self.rounds < 1 or self.round_to < 1:
            raise ValueError(
                "expected 0 < ratio < 1, rounds >= 1 and round_to >= 1, "
                f"got {self.ratio}, {self.rounds} and {self.round_to}"
            )

    @property
    def name(self) -> str:
        """What the report calls it."""
        return f"prune {self.ratio:.0%}".replace("%", " %")

    def settings(self) -> Mapping[str, Any]:
        """Return what decides the outcome."""
        return {
            "step": "prune",
            "ratio": self.ratio,
            "rounds": self.rounds,
            "round_to": self.round_to,
            "keep": self.keep,
            "by_sensitivity": self.score is not None,
            "training": self.training.settings(),
        }

    def fallbacks(self, before: Artifact) -> Iterable[Step]:
        """Return nothing: compress less instead."""
        del before
        return ()

    def apply(self, before: Artifact) -> Artifact:
        """Return the narrower model, trained; raises RefusedError where no layer got narrower."""
        module = require_module(before)
        example = _example(before)
        ratios = self._ratios(module, example)
        widths = {name: _width(module, name) for name in ratios}
        n_before = sum(parameter.numel() for parameter in module.parameters())
        for done in range(1, self.rounds + 1):
            # Every round takes the same share of what is there then.
            kept = {name: (1 - ratio) ** (done / self.rounds) for name, ratio in ratios.items()}
            targets = {name: _rounded(width, kept[name], self.round_to) for name, width in widths.items()}
            _narrow(module, example, targets, keep=self.keep)
            self.training.train(module)
        n_after = sum(parameter.numel() for parameter in module.cpu().parameters())
        if n_after == n_before:
            raise RefusedError(
                f"no layer got narrower: {self.ratio:.0%} of its channels is less than a multiple of {self.round_to}"
            )
        return exported(before, module, notes=(f"parameters {n_before} to {n_after}",))

    def _ratios(self, module: nn.Module, example: tuple[torch.Tensor, ...]) -> dict[str, float]:
        """Return the share of channels that each layer shall lose, by its name."""
        groups = groups_of(module, example, self.keep)
        if self.score is None:
            return {name: self.ratio for names in groups for name in names}
        full = self.score(module)
        losses = []
        for names in groups:
            trial = copy.deepcopy(module)
            targets = {name: _rounded(_width(trial, name), 1 - self.ratio, self.round_to) for name in names}
            _narrow(trial, example, targets, keep=self.keep)
            losses.append(full - self.score(trial))
        # From the least missed, which loses most, to the most missed.
        tilts = np.linspace(1 + _TILT, 1 - _TILT, len(groups)) if len(groups) > 1 else np.ones(len(groups))
        order = np.argsort(losses, kind="stable")
        return {
            name: float(min(self.ratio * tilt, _MOST))
            for place, tilt in zip(order, tilts, strict=True)
            for name in groups[place]
        }


def groups_of(module: nn.Module, example: tuple[torch.Tensor, ...], keep: tuple[str, ...]) -> list[list[str]]:
    """Return the layers that must keep one width, group by group."""
    torch_pruning = require("torch_pruning", package="quatrain-core[compress]")
    module.eval()
    graph = torch_pruning.DependencyGraph().build_dependency(module, example_inputs=example)
    names = {layer: name for name, layer in module.named_modules()}
    ignored = [module.get_submodule(name) for name in keep]
    groups = []
    for group in graph.get_all_groups(ignored_layers=ignored):
        outs = [
            names[dependency.target.module]
            for dependency, _ in group
            if graph.is_out_channel_pruning_fn(dependency.handler)
            and dependency.target.module in names
            and getattr(dependency.target.module, "weight", None) is not None
        ]
        groups.append(outs)
    return groups


def _rounded(width: int, kept: float, round_to: int) -> int:
    """Return the nearest multiple of `round_to` to the share that is kept: at least one, at most all there is."""
    return min(width, max(round_to, round(width * kept / round_to) * round_to))


def _width(module: nn.Module, name: str) -> int:
    """Return how many channels the layer gives: the first size of its weights, whatever its kind."""
    return len(module.get_parameter(f"{name}.weight"))


def _example(before: Artifact) -> tuple[torch.Tensor, ...]:
    import torch

    return tuple(torch.from_numpy(np.array(array[:2])) for array in before.rows.values())


def _narrow(
    module: nn.Module, example: tuple[torch.Tensor, ...], widths: Mapping[str, int], *, keep: tuple[str, ...]
) -> None:
    """Remove the channels with the smallest weights until each layer named has its width; others keep theirs."""
    torch_pruning = require("torch_pruning", package="quatrain-core[compress]")
    module.cpu().eval()
    # The pruner cuts channels x (1 - ratio) to a whole number; the excess keeps it from ending one short.
    ratios = {
        module.get_submodule(name): 1 - (width + _EXCESS) / _width(module, name)
        for name, width in widths.items()
        if width < _width(module, name)
    }
    pruner = torch_pruning.pruner.BasePruner(
        module,
        example,
        importance=torch_pruning.importance.GroupMagnitudeImportance(p=2),
        pruning_ratio=0.0,
        pruning_ratio_dict=ratios,
        ignored_layers=[module.get_submodule(name) for name in keep],
    )
    pruner.step()
