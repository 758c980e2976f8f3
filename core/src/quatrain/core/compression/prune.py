"""Structured pruning: whole channels go, with everything that depended on them, and training mends the rest.

The groups of layers that must lose the same channels are found by torch-pruning (Fang et al.,
"DepGraph: Towards Any Structural Pruning", CVPR 2023).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from quatrain.core.compression.allotment import Group, allot, curves_of, groups_of, rounded, work_of
from quatrain.core.compression.artifact import Artifact, Step
from quatrain.core.compression.gate import Promise, RefusedError
from quatrain.core.compression.modules import exported, require_module
from quatrain.core.errors import require

if TYPE_CHECKING:
    import torch
    from torch import nn

    from quatrain.core.compression.retraining import TrainingRows

_EXCESS = 0.01


@dataclass(frozen=True, kw_only=True, eq=False)
class Prune:
    """Remove the share `ratio` of each layer's channels, in rounds with training after each.

    `by_sensitivity` spends the same work unevenly: each group is pruned alone to some widths,
    untrained, and keeps more the more the loss on training rows rises (or `score` falls, where one is
    given; larger is better). Layers named in `keep` keep their width, as must the one that gives the
    logits.
    """

    ratio: float
    training: TrainingRows
    keep: tuple[str, ...]
    rounds: int = 1
    # Widths stay multiples of this: kernels compute in vectors.
    round_to: int = 8
    by_sensitivity: bool = False
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
            "by_sensitivity": self.by_sensitivity,
            "by_score": self.score is not None,
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
        shares, notes = self._kept(module, example)
        widths = {name: _width(module, name) for name in shares}
        n_before = sum(parameter.numel() for parameter in module.parameters())
        for done in range(1, self.rounds + 1):
            # Every round takes the same share of what is there then.
            kept = {name: share ** (done / self.rounds) for name, share in shares.items()}
            targets = {name: rounded(width, kept[name], self.round_to) for name, width in widths.items()}
            _narrow(module, example, targets, keep=self.keep)
            self.training.train(module)
        n_after = sum(parameter.numel() for parameter in module.cpu().parameters())
        if n_after == n_before:
            raise RefusedError(
                f"no layer got narrower: {self.ratio:.0%} of its channels is less than a multiple of {self.round_to}"
            )
        return exported(before, module, notes=(f"parameters {n_before} to {n_after}", *notes))

    def _kept(self, module: nn.Module, example: tuple[torch.Tensor, ...]) -> tuple[dict[str, float], tuple[str, ...]]:
        """Return the share of channels that each layer shall keep, by its name, and what to say of it."""
        groups = groups_of(module, example, self.keep)
        uniform = [rounded(group.width, 1 - self.ratio, self.round_to) for group in groups]
        if self.score is None and not self.by_sensitivity:
            return _by_layer(groups, uniform), ()
        score = self.score

        def loss(trial: nn.Module) -> float:
            return self.training.loss(trial) if score is None else -score(trial)

        def narrow(trial: nn.Module, widths: Mapping[str, int]) -> None:
            _narrow(trial, example, widths, keep=self.keep)

        work = work_of(module, example, groups)
        curves = curves_of(module, groups, loss, narrow, round_to=self.round_to)
        widths = allot(work, curves, target=work.at(uniform), round_to=self.round_to)
        each = ", ".join(
            f"{group.names[0]} {group.width} to {width}" for group, width in zip(groups, widths, strict=True)
        )
        return _by_layer(groups, widths), (f"widths by sensitivity: {each}",)


def _by_layer(groups: Sequence[Group], widths: Sequence[int]) -> dict[str, float]:
    return {name: width / group.width for group, width in zip(groups, widths, strict=True) for name in group.names}


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
