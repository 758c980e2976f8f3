"""Movement-demand phase competition: who could cross in the next seconds, less what a change costs."""

from __future__ import annotations

from collections import defaultdict

from quatrain.smart_city.controllers.settings import ControlSettings
from quatrain.smart_city.features import CAR_SPACE_M, Detections, Seen
from quatrain.smart_city.signals.model import SignalModel
from quatrain.smart_city.signals.shield import Shield


class DemandCompetition:
    """Shows the stage that lets most vehicles cross in a window, counting a change's lost time against it."""

    def __init__(self, model: SignalModel, detections: Detections, settings: ControlSettings) -> None:
        self._model, self._detections, self._settings = model, detections, settings
        self._lost = [[_lost_s(model, a, b) for b in range(len(model.stages))] for a in range(len(model.stages))]

    def choose(self, shield: Shield, now: float) -> int:
        """Return the stage that serves most in the window; the shown one unless another is clearly ahead."""
        lanes: dict[str, list[Seen]] = defaultdict(list)
        for each in self._detections.of(self._model.tls, now):
            connections = self._model.connections[each.link]
            if connections and self._has_room(connections[0].to_lane):
                lanes[connections[0].from_lane].append(each)
        shown = shield.stage
        served = [self._served(lanes, stage, self._lost[shown][stage]) for stage in range(len(self._model.stages))]
        best = max(range(len(served)), key=lambda stage: served[stage])
        keep = served[shown] * (1 + self._settings.demand_margin)
        return best if served[best] > keep else shown

    def _has_room(self, lane: str) -> bool:
        return self._detections.free_space_m(lane) >= CAR_SPACE_M

    def _served(self, lanes: dict[str, list[Seen]], stage: int, lost_s: float) -> float:
        """Return how many vehicles could cross in the window after the lost time."""
        green = self._model.stages[stage].green
        window = self._settings.demand_window_s
        total = 0.0
        for queue in lanes.values():
            at = lost_s + (self._settings.startup_s if lost_s else 0.0)
            for each in queue:
                if each.link not in green:
                    break
                arrival = each.distance_m / float(self._model.speed_mps[each.link])
                at = max(at, arrival)
                if at > window:
                    break
                total += 1
                at += self._settings.headway_s
        return total


def _lost_s(model: SignalModel, a: int, b: int) -> float:
    """Return how long the links that only `b` shows wait for those that only `a` shows."""
    ending = model.stages[a].green - model.stages[b].green
    starting = model.stages[b].green - model.stages[a].green
    gaps = [float(model.intergreen_s[i, j]) for i in ending for j in starting if model.conflicts[i, j]]
    return max(gaps, default=0.0)
