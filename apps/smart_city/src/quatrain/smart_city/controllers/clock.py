"""The city's own stages and greens by the clock, for a signal whose detectors have gone silent."""

from __future__ import annotations

from collections.abc import Sequence

from quatrain.smart_city.data.network import Programme
from quatrain.smart_city.signals.intergreen import is_stage
from quatrain.smart_city.signals.shield import Shield


class ByTheClock:
    """Shows the stages of the city's programme in its order, each for its own time, without looking at traffic."""

    def __init__(self, programmes: Sequence[Programme]) -> None:
        phases = programmes[-1].phases
        rows = [row for row in range(len(phases)) if is_stage(phases, row)]
        self._turns = [(phases[row].state, phases[row].duration_s) for row in rows]
        self._at = 0

    def choose(self, shield: Shield, now: float) -> int:
        """Return the stage whose turn it is."""
        if not self._turns:
            return shield.stage
        state, seconds = self._turns[self._at]
        wish = shield.model.stage_of(state)
        if wish == shield.stage and shield.green_s(now) >= seconds:
            self._at = (self._at + 1) % len(self._turns)
            wish = shield.model.stage_of(self._turns[self._at][0])
        return shield.stage if wish is None else wish
