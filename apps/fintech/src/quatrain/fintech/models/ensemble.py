"""A trained recipe: trees, and where the recipe has one a network, as one model and one graph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from quatrain.core import export, graphs
from quatrain.fintech.metrics.scored import Floats
from quatrain.fintech.models import trees
from quatrain.fintech.models.fold import Exported, X
from quatrain.fintech.models.isolation import Isolation
from quatrain.fintech.models.ratios import Pairs, with_ratios
from quatrain.fintech.models.stacking import Stack

if TYPE_CHECKING:
    import lightgbm
    from torch import nn


@dataclass(frozen=True, kw_only=True)
class Ensemble:
    """What `fit` gives; each part reads the inputs with their ratios, the trees the isolation's column too."""

    booster: lightgbm.Booster
    ratios: Pairs = ()
    isolation: Isolation | None = None
    # Both or none.
    tabm: nn.Module | None = None
    stack: Stack | None = None

    def predict(self, x: X) -> Floats:
        """Return the score of each row, float64 of shape (n,), in [0, 1]."""
        wide = with_ratios(x, self.ratios)
        of_trees = wide if self.isolation is None else np.column_stack([wide, self.isolation.column(x)])
        score = trees.predict(self.booster, of_trees)
        if self.tabm is None or self.stack is None:
            return score
        from quatrain.fintech.models import network

        members = [score.astype(np.float32), network.predict(self.tabm, wide)]
        return graphs.blended(members, self.stack.weights, self.stack.intercept)

    def export(self) -> Exported:
        """Return the model as one graph: float32 features in, float32 probability out."""
        n_added = len(self.ratios) + (self.isolation is not None)
        n_columns = self.booster.num_feature() - n_added
        ahead = [graphs.quotients_model(self.ratios, n_columns=n_columns)] if self.ratios else []
        of_trees = ahead + ([self.isolation.onnx] if self.isolation else [])
        onnx = export.lightgbm_model(self.booster)
        onnx = graphs.with_columns(onnx, of_trees) if of_trees else onnx
        if self.tabm is None or self.stack is None:
            return Exported(onnx=onnx)
        from quatrain.fintech.models import network

        made = network.exported(self.tabm)
        beside = graphs.with_columns(made.onnx, ahead) if ahead else made.onnx
        return Exported(
            onnx=graphs.blend([onnx, beside], self.stack.weights, self.stack.intercept), weights=made.weights
        )
