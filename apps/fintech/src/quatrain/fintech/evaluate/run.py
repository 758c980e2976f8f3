"""`quatrain fintech evaluate`: which protocol measures, and the table as JSON values."""

from __future__ import annotations

from typing import Any

from quatrain.core.errors import require_installed
from quatrain.fintech.evaluate.config import EvaluateConfig


def evaluate(config: EvaluateConfig) -> dict[str, Any]:
    """Return the table as JSON values: the model's row first, baselines after it.

    Raises MissingExtraError, before any work, when what trains the baselines is not installed.
    """
    for module in ("lightgbm", "sklearn"):
        require_installed(module, package="quatrain-fintech[train]")
    if config.has_folds:
        from quatrain.fintech.evaluate.prequential import evaluate_folds

        return evaluate_folds(config)
    from quatrain.fintech.evaluate.sealed import evaluate_sealed

    return evaluate_sealed(config)
