"""Whether an explanation is about the model: with its weights randomised, it must become another one."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

# An explanation of random weights that still ranks the inputs as before explains the inputs, not the model.
MOST_ALIKE = 0.5

Explain = Callable[[nn.Module], Tensor]


@dataclass(frozen=True)
class Randomised:
    """How alike explanations stay while layers lose their weights from the last to the first."""

    # Layer up to which, from the end, weights are random; and the mean rank correlation with the first explanation.
    layers: tuple[str, ...]
    correlations: tuple[float, ...]

    @property
    def is_about_the_model(self) -> bool:
        """Whether the explanation of the wholly random model is another one."""
        return abs(self.correlations[-1]) <= MOST_ALIKE


def weight_randomisation(module: nn.Module, explain: Explain, *, seed: int = 0) -> Randomised:
    """Return the cascading randomisation test (Adebayo et al., "Sanity Checks for Saliency Maps", NeurIPS 2018).

    `explain` gives an explanation (B, ...) of the module that it is handed; a layer is whatever has
    weights of its own. The module itself is left as it is.
    """
    random = copy.deepcopy(module)
    named = [(name, layer) for name, layer in random.named_modules() if list(layer.parameters(recurse=False))]
    if not named:
        raise ValueError("the module has no weights to randomise")
    wanted = explain(module)
    generator = torch.Generator().manual_seed(seed)
    layers, correlations = [], []
    for name, layer in reversed(named):
        _randomise(layer, generator)
        layers.append(name)
        correlations.append(rank_correlation(wanted, explain(random)))
    return Randomised(tuple(layers), tuple(correlations))


def rank_correlation(left: Tensor, right: Tensor) -> float:
    """Return Spearman's rank correlation of the absolute values, the mean over rows; 0 for a row without ranks."""
    a, b = (_ranks(each.detach().abs().flatten(1).cpu().double().numpy()) for each in (left, right))
    a, b = a - a.mean(1, keepdims=True), b - b.mean(1, keepdims=True)
    norms = np.sqrt((a**2).sum(1) * (b**2).sum(1))
    products = (a * b).sum(1)
    return float(np.divide(products, norms, out=np.zeros_like(products), where=norms > 0).mean())


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return ranks along rows; equal values share their mean rank."""
    found = np.empty_like(values)
    for place, row in enumerate(values):
        _, inverse, counts = np.unique(row, return_inverse=True, return_counts=True)
        found[place] = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    return found


def _randomise(layer: nn.Module, generator: torch.Generator) -> None:
    """Give the layer's own weights the mean and spread that they had, in any order."""
    with torch.no_grad():
        for weights in layer.parameters(recurse=False):
            drawn = torch.randn(weights.shape, generator=generator).to(weights)
            spread = weights.std() if weights.numel() > 1 else weights.abs().mean()
            weights.copy_(drawn * spread)
