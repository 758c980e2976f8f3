"""What a model's answer means: a score, a probability with its interval, and whether it is an alert."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quatrain.core.bundle.manifest import BundleError, Manifest

Floats32 = NDArray[np.float32]
# By name: "score" always; "probability", "low" and "high" where the model has a score besides.
Measures = Mapping[str, Floats32]

SCORE = "score"
PROBABILITY = "probability"
# In the order in which files hold them.
MEASURES = (SCORE, PROBABILITY, "low", "high")


@dataclass(frozen=True, kw_only=True)
class Policy:
    """The sealed decision of a model; batch and online ask the same one, on the same float32 numbers."""

    # The outputs of the graph by the name they are known by here.
    outputs: Mapping[str, str]
    threshold: np.float32
    # The measure that the threshold is compared with.
    threshold_on: str

    @classmethod
    def of(cls, manifest: Manifest) -> Policy:
        """Return the decision that was sealed; raises BundleError for one that cannot be taken."""
        decision: Mapping[str, Any] = manifest.decision
        names = {spec.name for spec in manifest.outputs}
        # A graph with one output calls its score a probability.
        outputs = {name: name for name in MEASURES if name in names} if SCORE in names else {SCORE: PROBABILITY}
        on = decision.get("threshold_on", PROBABILITY)
        threshold_on = on if on in outputs else SCORE
        if on not in (SCORE, PROBABILITY) or "threshold" not in decision:
            raise BundleError(
                f"{manifest.name} decides by a threshold on {on!r}, expected a threshold on score or probability; "
                "train it again with this Quatrain"
            )
        return cls(outputs=outputs, threshold=np.float32(decision["threshold"]), threshold_on=threshold_on)

    @property
    def names(self) -> tuple[str, ...]:
        """The measures that files hold."""
        return tuple(self.outputs)

    def measures(self, answer: Mapping[str, NDArray[Any]]) -> dict[str, Floats32]:
        """Return what a prediction says, each measure float32 of shape (n,)."""
        return {name: np.asarray(answer[output]) for name, output in self.outputs.items()}

    def nothing(self) -> dict[str, Floats32]:
        """Return the measures of no row."""
        return {name: np.zeros(0, dtype=np.float32) for name in self.outputs}

    def is_alert(self, measures: Measures) -> NDArray[np.bool_]:
        """Return which rows reach the threshold."""
        return np.asarray(measures[self.threshold_on] >= self.threshold)
