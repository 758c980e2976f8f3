"""The check of explanations: it passes what depends on the weights, and fails what does not."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import Tensor, nn

from quatrain.core.explain.gradients import integrated_gradients
from quatrain.core.explain.sanity import rank_correlation, weight_randomisation


def network() -> nn.Module:
    """Return a small network."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(40, 32), nn.ReLU(), nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 1), nn.Flatten(0))


X = torch.randn(8, 40, generator=torch.Generator().manual_seed(1))


def test_integrated_gradients_are_about_the_model() -> None:
    """Random weights give another explanation; the layers lose theirs from the last to the first."""
    module = network()
    before = [weights.clone() for weights in module.parameters()]
    found = weight_randomisation(module, lambda each: integrated_gradients(each, X, steps=8).values)
    assert found.layers == ("4", "2", "0")
    assert found.is_about_the_model
    assert all(torch.equal(a, b) for a, b in zip(before, module.parameters(), strict=True))


def test_an_explanation_that_only_looks_at_the_input_is_found_out() -> None:
    """As an edge detector, which looks convincing and says nothing about the model."""
    found = weight_randomisation(network(), lambda _: X)
    assert found.correlations == (1.0, 1.0, 1.0)
    assert not found.is_about_the_model


def test_the_same_seed_gives_the_same_weights() -> None:
    """So that a report can be made again."""

    def explain(each: nn.Module) -> Tensor:
        return integrated_gradients(each, X, steps=4).values

    assert weight_randomisation(network(), explain, seed=3) == weight_randomisation(network(), explain, seed=3)


def test_rank_correlation_is_spearmans_with_ties() -> None:
    """Against SciPy, on absolute values."""
    rng = np.random.default_rng(0)
    a, b = rng.integers(-4, 5, (3, 30)).astype(float), rng.normal(size=(3, 30))
    wanted = np.mean([spearmanr(np.abs(p), np.abs(q)).statistic for p, q in zip(a, b, strict=True)])
    assert rank_correlation(torch.tensor(a), torch.tensor(b)) == pytest.approx(wanted)


def test_a_map_without_ranks_counts_as_unlike() -> None:
    """All zero is no explanation, and no error either."""
    assert rank_correlation(torch.zeros(2, 5), torch.ones(2, 5)) == 0.0


def test_a_module_without_weights_is_refused() -> None:
    """There is nothing to randomise."""
    with pytest.raises(ValueError, match="no weights to randomise"):
        weight_randomisation(nn.ReLU(), lambda _: X)
