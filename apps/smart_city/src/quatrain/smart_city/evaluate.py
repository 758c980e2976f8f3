"""`quatrain smart-city evaluate`: controllers on one scenario over paired seeds, as the contract's table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from quatrain.core.config import Config, Flag, UserPath
from quatrain.core.errors import UsageError
from quatrain.smart_city.controllers.registry import SHIPPED, check_names
from quatrain.smart_city.controllers.settings import ControlSettings
from quatrain.smart_city.data.scenario import Scenario, read_scenario, scenario_from_parts
from quatrain.smart_city.gate import INCUMBENT, Choice, choose, gate_seeds
from quatrain.smart_city.metrics import mean, paired_difference, t_interval
from quatrain.smart_city.records import keep
from quatrain.smart_city.signals.model import signal_models
from quatrain.smart_city.simulation.pool import Pool
from quatrain.smart_city.simulation.result import Job, Result

# Measures in the order of the table; what a scenario has no part of is left out.
_COUNTS = frozenset({"vehicles", "arrived"})


class EvaluateConfig(Config):
    """Which controllers on which scenario: the `[smart_city.evaluate]` section."""

    scenario: UserPath
    # With a bare network in place of a .sumocfg: its demand.
    routes: tuple[UserPath, ...] = ()
    controllers: tuple[str, ...] = (INCUMBENT, "actuated", "max-pressure", SHIPPED)
    seeds: tuple[int, ...] = (1, 2, 3)
    # Seconds of yellow and red between conflicting greens, or the city's own.
    intergreen: Literal["incumbent"] | Annotated[float, Field(ge=1, le=30)] = "incumbent"
    # Simulations per rung of the shadow gate, with seeds of their own.
    n_gate_seeds: Annotated[int, Field(ge=2), Flag("--gate-seeds")] = 3
    # Demand in the gate and in the table, as a share of the scenario's.
    scale: float = Field(default=1.0, gt=0)
    has_emissions: Annotated[bool, Flag("--emissions")] = False
    workers: int | None = Field(default=None, ge=1)
    binding: Literal["libsumo", "traci"] = "libsumo"
    control: ControlSettings = ControlSettings()

    @field_validator("seeds", "controllers")
    @classmethod
    def _distinct(cls, values: tuple[Any, ...]) -> tuple[Any, ...]:
        if not values or len(set(values)) != len(values):
            raise ValueError("expected at least one, and none twice")
        return values

    def read_scenario(self) -> Scenario:
        """Return the scenario that the paths name."""
        if self.scenario.suffix == ".sumocfg" or not self.routes:
            return read_scenario(self.scenario)
        return scenario_from_parts(network=self.scenario, routes=self.routes)


def evaluate(config: EvaluateConfig) -> dict[str, Any]:
    """Return the table as JSON values: the shipped choice's row first where it is asked for.

    Each row has the mean over seeds, 95 % intervals over seeds, and against the incumbent the paired
    difference. Raises UserError before any simulation where the scenario cannot be controlled.
    """
    check_names(list(config.controllers))
    scenario = config.read_scenario()
    models = signal_models(scenario.read_network(), intergreen=config.intergreen)
    base = Job(
        scenario=scenario,
        controller=INCUMBENT,
        seed=config.seeds[0],
        intergreen=config.intergreen,
        settings=config.control,
        scale=config.scale,
        has_emissions=config.has_emissions,
        binding=config.binding,
    )
    with Pool(config.workers) as pool:
        choice = None
        if SHIPPED in config.controllers:
            choice = choose(base, pool, seeds=gate_seeds(config.seeds, config.n_gate_seeds), n_signals=len(models))
        runs = _measure(base, config, choice, pool)
    document = {
        "app": "smart-city",
        "task": "signal-control",
        "data": scenario.name,
        "is_synthetic": scenario.is_synthetic,
        "split": f"seeds {', '.join(map(str, config.seeds))}",
        "n": int(mean([run.metrics for run in next(iter(runs.values()))])["vehicles"]),
        "signals": len(models),
        "intergreen": config.intergreen,
        "sumo": version("eclipse-sumo"),
        "rows": [_row(name, runs, choice) for name in _order(config.controllers)],
    }
    keep("evaluation", {**document, "scenario": str(config.scenario.absolute())})
    return document


def _measure(base: Job, config: EvaluateConfig, choice: Choice | None, pool: Pool) -> dict[str, list[Result]]:
    """Return each row's runs over the seeds; what two rows share is simulated once."""
    real = {name: choice.controller if name == SHIPPED and choice else name for name in config.controllers}
    needed = list(dict.fromkeys(real.values()))
    jobs = [replace(base, controller=name, seed=seed) for name in needed for seed in config.seeds]
    results = pool.run(jobs)
    n = len(config.seeds)
    by_name = {name: results[i * n : (i + 1) * n] for i, name in enumerate(needed)}
    return {name: by_name[real[name]] for name in config.controllers}


def _order(names: Sequence[str]) -> list[str]:
    return sorted(names, key=lambda name: name != SHIPPED)


def _row(name: str, runs: Mapping[str, Sequence[Result]], choice: Choice | None) -> dict[str, Any]:
    measured = [run.metrics for run in runs[name]]
    metrics = mean(measured)
    intervals = {
        measure: t_interval([run[measure] for run in measured])
        for measure in metrics
        if measure not in _COUNTS and len(measured) > 1
    }
    row: dict[str, Any] = {"name": name, "metrics": metrics, "intervals": {k: list(v) for k, v in intervals.items()}}
    row["seeds"] = [run["delay_s"] for run in measured]
    if INCUMBENT in runs and name != INCUMBENT:
        ours, theirs = ([run.metrics["delay_s"] for run in runs[each]] for each in (name, INCUMBENT))
        difference, interval = paired_difference(ours, theirs)
        row["delay_vs_fixed_s"] = {"difference": difference, "interval": list(interval)}
    if name == SHIPPED and choice is not None:
        row |= choice.to_dict()
    return row


def parse_intergreen(text: str) -> str | float:
    """Return "incumbent" or a number of seconds; raise UsageError for anything else."""
    if text == "incumbent":
        return text
    try:
        return float(text)
    except ValueError as error:
        raise UsageError(f"--intergreen expects incumbent or a number of seconds, got {text!r}") from error
