"""Max-pressure control (Varaiya 2013) and its cyclic form (Levin, Hu and Odell 2020)."""

from __future__ import annotations

from quatrain.smart_city.controllers.settings import ControlSettings
from quatrain.smart_city.features import Detections
from quatrain.smart_city.signals.model import SignalModel, Stage
from quatrain.smart_city.signals.shield import Shield


class MaxPressure:
    """Shows the stage with the most vehicles before it, less those behind it, for one step at a time."""

    def __init__(self, model: SignalModel, detections: Detections, settings: ControlSettings) -> None:
        self._model, self._detections = model, detections
        self._step_s = settings.pressure_step_s
        self._next_at = 0.0

    def choose(self, shield: Shield, now: float) -> int:
        """Return the stage of the highest pressure once a step is over; the shown one where it ties."""
        if shield.green_s(now) < self._step_s:
            return shield.stage
        pressures = [_pressure(self._model, stage, self._detections) for stage in self._model.stages]
        best = max(pressures)
        return shield.stage if pressures[shield.stage] >= best else pressures.index(best)


class CyclicMaxPressure:
    """Shows the stages in the city's order and shares out a fixed cycle by their pressures."""

    def __init__(self, model: SignalModel, detections: Detections, settings: ControlSettings) -> None:
        del settings
        self._model, self._detections = model, detections
        self._greens: list[float] = [0.0] * len(model.stages)

    def choose(self, shield: Shield, now: float) -> int:
        """Return the next stage in order once the shown one has had its share of the cycle."""
        if not any(self._greens) or (shield.stage == 0 and shield.green_s(now) <= 1.0):
            self._share()
        if shield.green_s(now) < self._greens[shield.stage]:
            return shield.stage
        return (shield.stage + 1) % len(self._model.stages)

    def _share(self) -> None:
        pressures = [max(0.0, _pressure(self._model, stage, self._detections)) for stage in self._model.stages]
        total = sum(pressures) or 1.0
        self._greens = [self._model.cycle_s * each / total for each in pressures]


def _pressure(model: SignalModel, stage: Stage, detections: Detections) -> float:
    total = 0.0
    for link in stage.green:
        for c in model.connections[link]:
            if not c.is_crossing:
                total += detections.on_lane(c.from_lane) - detections.on_lane(c.to_lane)
    return total
