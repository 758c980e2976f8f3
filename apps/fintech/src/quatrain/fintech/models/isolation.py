"""How easily a row is told apart from all others, without labels: an input of the model, never an answer of its own."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from quatrain.core import graphs
from quatrain.core.errors import require
from quatrain.core.inference import open_session
from quatrain.fintech.models.fold import X
from quatrain.fintech.models.recipe_settings import IsolationSettings

_ROWS = 65_536
_EXTRA = "quatrain-fintech[train]"


@dataclass(frozen=True, kw_only=True)
class Isolation:
    """An isolation forest as the graph that the model will read it from."""

    onnx: bytes

    def column(self, x: X) -> X:
        """Return the mean path length of each row, float32 (n, 1): the graph's own bits, whatever the batch."""
        session = open_session(self.onnx)
        parts = [
            session.run(["path_length"], {"features": np.ascontiguousarray(x[i : i + _ROWS])})[0]
            for i in range(0, len(x), _ROWS)
        ]
        return np.concatenate(parts)


def grow_isolation(settings: IsolationSettings, x: X, *, seed: int) -> Isolation:
    """Return the forest of these rows; it takes no labels."""
    ensemble = require("sklearn.ensemble", package=_EXTRA)
    forest = ensemble.IsolationForest(
        n_estimators=settings.n_trees, max_samples=min(settings.n_rows, len(x)), random_state=seed
    )
    forest.fit(x)
    trees = [estimator.tree_ for estimator in forest.estimators_]
    return Isolation(onnx=graphs.isolation_model(trees, n_columns=x.shape[1]))
