"""Self-organising traffic lights (Gershenson 2005, with the platoon rules of Cools et al. 2013)."""

from __future__ import annotations

from quatrain.smart_city.controllers.settings import ControlSettings
from quatrain.smart_city.features import Detections
from quatrain.smart_city.signals.model import SignalModel
from quatrain.smart_city.signals.shield import Shield

# The papers' values: vehicle-seconds before a red that end it, and the tail of a platoon that is let through.
_THRESHOLD = 50.0
_NEAR_M = 25.0
_FEW = 3
_SEEN_M = 80.0


class SelfOrganising:
    """Changes when enough vehicles have waited at another stage, unless it would cut a platoon's tail."""

    def __init__(self, model: SignalModel, detections: Detections, settings: ControlSettings) -> None:
        del settings
        self._model, self._detections = model, detections
        self._waited = [0.0] * len(model.stages)
        self._at: float | None = None

    def choose(self, shield: Shield, now: float) -> int:
        """Return the stage whose vehicles have waited most, once they passed the threshold."""
        seen = [each for each in self._detections.of(self._model.tls, now) if each.distance_m <= _SEEN_M]
        shown = self._model.stages[shield.stage].green
        passed = 1.0 if self._at is None else now - self._at
        self._at = now
        for stage in self._model.stages:
            if stage.index != shield.stage:
                self._waited[stage.index] += passed * sum(each.link in stage.green - shown for each in seen)
        self._waited[shield.stage] = 0.0
        best = max(range(len(self._waited)), key=lambda index: self._waited[index])
        near = sum(each.link in shown and each.distance_m <= _NEAR_M for each in seen)
        if self._waited[best] < _THRESHOLD or 0 < near <= _FEW:
            return shield.stage
        self._waited[best] = 0.0
        return best
