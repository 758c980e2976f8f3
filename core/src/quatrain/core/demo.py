"""One line of the demo's results table, as every app's demo returns it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class DemoRow:
    """What one model reached on one data set in the demo.

    `metrics` and `intervals` use the flat metric names of `evaluate --json`; intervals are
    95 % unless the app's own protocol says otherwise.
    """

    app: str
    data: str
    model: str
    metrics: Mapping[str, float]
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    is_synthetic: bool = True
