"""What a fit gives back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class FitResult:
    """How a fit ended; the model that was passed in holds the weights to ship.

    Those are the best ones by the monitored value, or without a validation set the last ones,
    averaged if there is an average.
    """

    # "stopped": SIGTERM came; the checkpoint is written, and the same call goes on from there.
    status: Literal["done", "stopped"]
    # Why it ended, in words.
    reason: str
    steps: int
    epochs: int
    # The step whose weights the model holds, and the monitored value there.
    best_step: int
    best_value: float | None
    # The history row of that step.
    metrics: dict[str, float]
    history: Sequence[dict[str, float]]
    # The step that a checkpoint gave, or 0 for a fresh start.
    resumed_from: int
    # Seconds spent training, over all resumes.
    seconds: float
    # The picture of the history, where a run recorded it.
    plot: Path | None
