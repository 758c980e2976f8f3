"""Controllers by the name that a command line gives them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from quatrain.core.errors import UsageError, did_you_mean
from quatrain.smart_city.controllers.demand import DemandCompetition
from quatrain.smart_city.controllers.native import native_plans
from quatrain.smart_city.controllers.pressure import CyclicMaxPressure, MaxPressure
from quatrain.smart_city.controllers.rolling import make_rolling
from quatrain.smart_city.controllers.settings import ControlSettings
from quatrain.smart_city.controllers.sotl import SelfOrganising
from quatrain.smart_city.data.network import Network
from quatrain.smart_city.features import Detections
from quatrain.smart_city.retime.plan import Plan
from quatrain.smart_city.signals.model import SignalModel
from quatrain.smart_city.signals.shield import Shield

if TYPE_CHECKING:
    from quatrain.smart_city.simulation.result import Job

# Run by SUMO itself, from programme rows.
NATIVE = ("fixed", "actuated", "delay_based", "plan")
# Run through the shield.
SHIELDED = ("sotl", "max-pressure", "cyclic-max-pressure", "demand", "rolling", "rolling-alone")
# The same optimisation with messages between neighbours and without.
ROLLING = ("rolling", "rolling-alone")
# The ladder: whichever rung the shadow gate lets through.
SHIPPED = "quatrain"
CONTROLLERS = (*NATIVE[:-1], *SHIELDED, SHIPPED)


class Controller(Protocol):
    """Chooses the next stage of one signal, whenever its shield would keep the wish."""

    def choose(self, shield: Shield, now: float) -> int:
        """Return the stage to show next; the shown one to stay in it."""
        ...


def check_names(names: list[str]) -> list[str]:
    """Return the names; raise UsageError for one that is not a controller."""
    for name in names:
        if name not in CONTROLLERS:
            raise UsageError(f"there is no controller {name!r}{did_you_mean(name, CONTROLLERS)}")
    return names


def is_native(name: str) -> bool:
    """Return whether SUMO itself runs the controller."""
    return name in NATIVE


def plans_for(name: str, network: Network) -> tuple[Plan, ...]:
    """Return the programmes that SUMO is given for a native controller; none for the city's own."""
    return native_plans(network, name) if name in {"actuated", "delay_based"} else ()


def make_controllers(job: Job, models: dict[str, SignalModel], detections: Detections) -> dict[str, Controller]:
    """Return one controller per signal.

    Raises UsageError for a name that is not a controller through the shield.
    """
    if job.controller in ROLLING:
        has_messages = job.controller == "rolling"
        return dict(make_rolling(models, detections, job.settings, has_messages=has_messages))
    simple: dict[str, Callable[[SignalModel, Detections, ControlSettings], Controller]] = {
        "sotl": SelfOrganising,
        "max-pressure": MaxPressure,
        "cyclic-max-pressure": CyclicMaxPressure,
        "demand": DemandCompetition,
    }
    if job.controller not in simple:
        raise UsageError(f"{job.controller!r} is not a controller that runs through the shield: {', '.join(SHIELDED)}")
    return {tls: simple[job.controller](model, detections, job.settings) for tls, model in models.items()}
