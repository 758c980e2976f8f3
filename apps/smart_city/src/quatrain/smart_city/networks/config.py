"""What a generated network is made of."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from quatrain.core.config import Config


class NetworkConfig(Config):
    """A generated network and its demand: the `[smart_city.network]` section."""

    kind: Literal["arterial", "grid", "irregular", "crossing"] = "arterial"
    # Signals along and across; an irregular network has about columns x rows junctions.
    columns: int = Field(default=4, ge=1, le=20)
    rows: int = Field(default=2, ge=1, le=20)
    block_m: float = Field(default=220.0, ge=60, le=1000)
    lanes: int = Field(default=2, ge=1, le=4)
    # Pavements, crossings with walk and clearance in every programme, and people who walk.
    has_crossings: bool = False
    # Vehicles per hour that enter over a lane of a main road; side roads carry the share below.
    lane_vph: float = Field(default=350.0, gt=0, le=2500)
    side_share: float = Field(default=0.5, ge=0, le=1)
    # Demand rises from 70 % to 130 % of lane_vph and falls back over the time.
    has_peak: bool = True
    walkers_per_hour: float = Field(default=200.0, ge=0)
    duration_s: int = Field(default=1800, ge=60)
    # Seconds before `duration_s` at which the last vehicle departs, so that the network can empty.
    cool_down_s: int = Field(default=300, ge=0)
    # The city's programme in a generated network: netgenerate's cycle.
    cycle_s: int = Field(default=90, ge=20, le=240)
    seed: int = Field(default=0, ge=0)
