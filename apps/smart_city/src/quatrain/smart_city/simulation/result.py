"""What one simulation is asked, and what it gives back: plain records that cross processes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from quatrain.smart_city.controllers.settings import ControlSettings
from quatrain.smart_city.data.scenario import Scenario
from quatrain.smart_city.retime.plan import Plan
from quatrain.smart_city.signals.model import Intergreen


@dataclass(frozen=True, kw_only=True)
class Job:
    """One simulation: who controls which scenario, with which seed."""

    scenario: Scenario
    controller: str
    seed: int
    intergreen: Intergreen = "incumbent"
    settings: ControlSettings = field(default_factory=ControlSettings)
    # Shown in place of the city's programmes, by signal, where the controller is "plan".
    plans: tuple[Plan, ...] = ()
    # Demand, as a share of the scenario's own.
    scale: float = 1.0
    has_emissions: bool = False
    # Count the vehicles that come to each link.
    is_counted: bool = False
    # Read every shown state with the independent checker.
    is_checked: bool = False
    binding: str = "libsumo"


@dataclass(frozen=True, kw_only=True)
class Result:
    """The measures of one simulation, as `metrics.read_trips` defines them."""

    scenario: str
    controller: str
    seed: int
    metrics: Mapping[str, float]
    # Signals that the controller took over; the others kept the city's plan.
    controlled: int
    cpu_s: float
    simulated_s: float
    # Vehicles per hour that came within detection range, by signal and link, where they were counted.
    flows: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    n_states: int = 0
    violations: Mapping[str, int] = field(default_factory=dict)
