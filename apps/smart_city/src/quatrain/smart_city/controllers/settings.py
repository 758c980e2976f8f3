"""What a controller may be told: how far it sees, and the weights of its rules."""

from __future__ import annotations

from pydantic import Field

from quatrain.core.config import Config


class ControlSettings(Config):
    """How signals are controlled: the `[smart_city.control]` section."""

    # How far upstream vehicles are seen, in metres along their way.
    detection_m: float = Field(default=200.0, gt=0)
    # How far ahead the rolling optimisation looks, in seconds.
    horizon_s: int = Field(default=60, ge=10, le=300)
    # Seconds between vehicles that leave a queue over one lane (Highway Capacity Manual: 1,900 veh/h per lane).
    headway_s: float = Field(default=2.0, gt=0.5, lt=10)
    # Seconds that a queue loses until it moves off.
    startup_s: float = Field(default=1.5, ge=0, lt=10)
    # What slowing to a stand and speeding up again costs a vehicle, in seconds.
    stop_s: float = Field(default=4.0, ge=0, lt=60)
    # Shortest green of max-pressure, in seconds.
    pressure_step_s: float = Field(default=5.0, gt=0)
    # The window of the demand competition, and how much more another stage must serve in it.
    demand_window_s: float = Field(default=15.0, gt=0)
    demand_margin: float = Field(default=0.1, ge=0)
    # Share of vehicles that detectors never see, for trials of how control stands faults; 1: all detectors failed.
    missed_share: float = Field(default=0.0, ge=0, le=1)
