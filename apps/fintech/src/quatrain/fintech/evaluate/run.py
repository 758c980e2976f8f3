"""`quatrain fintech evaluate`: which protocol measures, and the table as JSON values."""

from __future__ import annotations

from typing import Any

from quatrain.fintech.evaluate.config import EvaluateConfig
from quatrain.fintech.evaluate.sealed import evaluate_sealed


def evaluate(config: EvaluateConfig) -> dict[str, Any]:
    """Return the table as JSON values: the sealed model's row first, baselines after it."""
    return evaluate_sealed(config)
