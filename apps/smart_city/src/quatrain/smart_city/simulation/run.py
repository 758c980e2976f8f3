"""One simulation in this process: started, controlled second by second through the shield, measured."""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quatrain.core.errors import BadDataError, UserError
from quatrain.smart_city.controllers.clock import ByTheClock
from quatrain.smart_city.controllers.registry import Controller, is_native, make_controllers, plans_for
from quatrain.smart_city.data.network import Network
from quatrain.smart_city.features import Detections
from quatrain.smart_city.metrics import read_trips
from quatrain.smart_city.retime.plan import to_additional
from quatrain.smart_city.signals.checker import Checker, Violation
from quatrain.smart_city.signals.model import SignalModel, signal_models
from quatrain.smart_city.signals.shield import Shield
from quatrain.smart_city.simulation import sumo as door
from quatrain.smart_city.simulation.result import Job, Result


def simulate(job: Job) -> Result:
    """Return the measures of one simulation.

    libsumo holds one simulation per process: run several through `pool.run_all`. Raises UserError
    where the scenario cannot run, with SUMO's own words.
    """
    network = job.scenario.read_network()
    models = signal_models(network, intergreen=job.intergreen)
    with tempfile.TemporaryDirectory(prefix="quatrain-") as name:
        folder = Path(name)
        log = folder / "sumo.log"
        try:
            with door.silenced(log):
                sumo = door.binding(job.binding)
                outcome = _run(sumo, job, network, models, folder)
        except (UserError, BadDataError):
            raise
        except Exception as error:
            if type(error).__module__.split(".")[0] not in {"libsumo", "traci"}:
                raise
            said = door.complaint(folder / "errors.log")
            raise BadDataError(f"SUMO cannot run {job.scenario.name}: {said} ({error})") from error
        metrics = read_trips(folder / "trips.xml", duration_s=outcome.simulated_s)
    return Result(
        scenario=job.scenario.name,
        controller=job.controller,
        seed=job.seed,
        metrics=metrics,
        controlled=outcome.controlled,
        cpu_s=outcome.cpu_s,
        simulated_s=outcome.simulated_s,
        flows=outcome.flows,
        n_states=outcome.n_states,
        violations=Counter(violation.kind for violation in outcome.violations),
    )


@dataclass(frozen=True, kw_only=True)
class _Outcome:
    controlled: int
    cpu_s: float
    simulated_s: float
    flows: dict[str, tuple[float, ...]]
    n_states: int
    violations: list[Violation]


def _run(sumo: Any, job: Job, network: Network, models: dict[str, SignalModel], folder: Path) -> _Outcome:
    started = time.process_time()
    door.start(sumo, job.binding, _flags(job, network, folder))
    try:
        present = set(sumo.trafficlight.getIDList())
        models = {tls: model for tls, model in models.items() if tls in present}
        loop = None if is_native(job.controller) else Loop(sumo, job, network, models)
        checkers = {tls: Checker(model) for tls, model in models.items()} if job.is_checked else {}
        counter = Detections(sumo, models, detection_m=job.settings.detection_m) if job.is_counted else None
        last = _steps(sumo, job, loop, checkers, counter)
    finally:
        sumo.close()
    return _Outcome(
        controlled=len(models) if loop is not None else 0,
        cpu_s=time.process_time() - started,
        simulated_s=last - job.scenario.begin_s,
        flows=_flows(counter, models, last - job.scenario.begin_s),
        n_states=sum(checker.n_states for checker in checkers.values()),
        violations=[violation for checker in checkers.values() for violation in checker.violations],
    )


def _flows(counter: Detections | None, models: dict[str, SignalModel], seconds: float) -> dict[str, tuple[float, ...]]:
    if counter is None:
        return {}
    per_hour = 3600 / max(seconds, 1.0)
    return {
        tls: tuple(counter.arrivals[tls].get(link, 0) * per_hour for link in range(model.n_links))
        for tls, model in models.items()
    }


def _steps(sumo: Any, job: Job, loop: Loop | None, checkers: dict[str, Checker], counter: Detections | None) -> float:
    """Run to the end; return the last second."""
    scenario = job.scenario
    per_second = max(1, round(1 / scenario.step_s))
    has_end = scenario.end_s is not None
    now, n_steps = scenario.begin_s, 0
    while now < scenario.last_s - 1e-9:
        if n_steps % per_second == 0:
            if loop is not None:
                loop.step(now)
            if counter is not None:
                counter.of("", now)
            if not has_end and sumo.simulation.getMinExpectedNumber() == 0:
                break
        sumo.simulationStep()
        for tls, checker in checkers.items():
            checker.read(now, sumo.trafficlight.getRedYellowGreenState(tls))
        n_steps += 1
        now = scenario.begin_s + n_steps * scenario.step_s
    return now


def _flags(job: Job, network: Network, folder: Path) -> list[str]:
    flags = job.scenario.flags()
    additional = list(job.scenario.additional)
    plans = job.plans or plans_for(job.controller, network)
    if plans:
        path = folder / "plans.add.xml"
        path.write_text(to_additional(plans), encoding="utf-8")
        additional.append(path)
    if additional:
        flags += ["--additional-files", ",".join(map(str, additional))]
    if job.scale != 1.0:
        flags += ["--scale", f"{job.scale:g}"]
    if job.has_emissions:
        flags += ["--device.emissions.probability", "1"]
    return [
        *flags,
        *("--seed", str(job.seed)),
        *("--tripinfo-output", str(folder / "trips.xml")),
        "--tripinfo-output.write-unfinished",
        "--tripinfo-output.write-undeparted",
        *("--error-log", str(folder / "errors.log")),
        "--no-step-log",
        "--no-warnings",
        "--duration-log.disable",
    ]


class Loop:
    """Controls every modelled signal of a running simulation, each through its own shield."""

    def __init__(self, sumo: Any, job: Job, network: Network, models: dict[str, SignalModel]) -> None:
        self._lights = sumo.trafficlight
        self._models = models
        self.detections = Detections(
            sumo, models, detection_m=job.settings.detection_m, missed_share=job.settings.missed_share
        )
        self._rescue = {tls: ByTheClock(programmes) for tls, programmes in network.programmes.items()}
        self.shields: dict[str, Shield] = {}
        self._shown: dict[str, str] = {}
        self._waiting = dict(models)
        self._controllers: dict[str, Controller] = make_controllers(job, models, self.detections)

    def step(self, now: float) -> None:
        """Show each signal's state for the second that starts at `now`."""
        if self._waiting:
            self._take_over(now)
        for tls, shield in self.shields.items():
            wish = shield.stage
            if shield.is_ready(now):
                wish = self._controllers[tls].choose(shield, now)
                if self.detections.is_silent(tls, now):
                    # Not believed: the signal goes by the city's clock until they see again.
                    wish = self._rescue[tls].choose(shield, now)
            state = shield.step(now, wish)
            if state != self._shown[tls]:
                self._lights.setRedYellowGreenState(tls, state)
                self._shown[tls] = state

    def _take_over(self, now: float) -> None:
        """Take each signal from the city's programme at the first second in which it shows a stage."""
        for tls, model in list(self._waiting.items()):
            state = self._lights.getRedYellowGreenState(tls)
            stage = model.stage_of(state)
            if stage is not None:
                self.shields[tls] = Shield(model, stage=stage, now=now)
                self._lights.setRedYellowGreenState(tls, state)
                self._shown[tls] = state
                del self._waiting[tls]
