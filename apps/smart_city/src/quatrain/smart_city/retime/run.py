"""`quatrain smart-city retime`: a city's fixed-time plans made anew, proven on seeds that the search never saw."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from quatrain.core.errors import BadDataError, UserError
from quatrain.smart_city.data.network import Network, Programme
from quatrain.smart_city.data.scenario import Scenario, read_scenario, scenario_from_parts
from quatrain.smart_city.gate import INCUMBENT, Verdict, judge
from quatrain.smart_city.records import keep
from quatrain.smart_city.retime.config import RetimeConfig
from quatrain.smart_city.retime.plan import Plan, plan_of
from quatrain.smart_city.retime.search import Found, Space, search
from quatrain.smart_city.retime.sheets import to_dict, write_sheets
from quatrain.smart_city.retime.webster import stage_rows, webster_plan
from quatrain.smart_city.signals.model import SignalModel, signal_models
from quatrain.smart_city.simulation.pool import Pool
from quatrain.smart_city.simulation.result import Job

Flows = Mapping[str, Sequence[float]]
# The proof's seeds start here; the search's at 1.
_PROOF_SEED = 5001
_FEWEST_STAGES = 2


@dataclass(frozen=True, kw_only=True)
class Retimed:
    """New plans beside the city's own; where they are not proven better, `plans` are the city's."""

    scenario: str
    is_promoted: bool
    plans: tuple[Plan, ...]
    verdict: Verdict
    webster_delay_s: float
    found: Found
    outputs: tuple[Path, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return {
            "app": "smart-city",
            "task": "retime",
            "data": self.scenario,
            "is_promoted": self.is_promoted,
            "reason": self.verdict.reason,
            "incumbent_delay_s": self.verdict.incumbent_delay_s,
            "delay_s": self.verdict.delay_s,
            "difference_s": self.verdict.difference_s,
            "interval_s": list(self.verdict.interval_s),
            "webster_delay_s": self.webster_delay_s,
            "tried": self.found.tried,
            "history": list(self.found.history),
            "signals": [
                {"signal": plan.tls, "cycle_s": plan.cycle_s, "offset_s": plan.offset_s} for plan in self.plans
            ],
            "outputs": [str(path) for path in self.outputs],
        }


def retime(config: RetimeConfig) -> Retimed:
    """Return re-timed plans: Webster's and the city's as starts, then CMA-ES over splits, cycle and offsets.

    Rows between the stages, and with them every intergreen, stay the city's own. The new plans are
    measured beside the city's on seeds of their own, and kept only where the paired interval bounds
    them as not worse. Raises UserError where no signal has a static programme to re-time.
    """
    scenario = _scenario(config)
    network = scenario.read_network()
    models = signal_models(network)
    programmes = _static(network, models)
    base = Job(scenario=scenario, controller=INCUMBENT, seed=config.seed)
    space = Space(programmes)
    with Pool(config.workers) as pool:
        flows = read_counts(config.counts, models) if config.counts else _counted(base, pool)
        webster = {tls: webster_plan(models[tls], each, flows[tls]) for tls, each in programmes.items()}
        own = {tls: plan_of(each) for tls, each in programmes.items()}
        seeds = range(config.seed, config.seed + config.n_search_seeds)
        starts = [space.vector(own), space.vector(webster)]
        found = search(base, space, starts, pool, seeds=seeds, budget=config.budget, patience=config.patience)
        verdict, webster_delay = _prove(base, found, tuple(webster.values()), pool, config.n_proof_seeds)
    plans = found.plans if verdict.passes else tuple(own.values())
    outputs = write_sheets(config.out, plans, models) if config.out else ()
    result = Retimed(
        scenario=scenario.name,
        is_promoted=verdict.passes,
        plans=plans,
        verdict=verdict,
        webster_delay_s=webster_delay,
        found=found,
        outputs=outputs,
    )
    sheets = [to_dict(plan, models[plan.tls]) for plan in plans]
    keep(
        "retiming",
        {
            **result.to_dict(),
            "is_synthetic": scenario.is_synthetic,
            "plans": sheets,
            "scenario": str(config.scenario.absolute()),
        },
    )
    return result


def _scenario(config: RetimeConfig) -> Scenario:
    if config.scenario.suffix == ".sumocfg" or not config.routes:
        return read_scenario(config.scenario)
    return scenario_from_parts(network=config.scenario, routes=config.routes)


def _static(network: Network, models: Mapping[str, SignalModel]) -> dict[str, Programme]:
    running = {tls: network.programmes[tls][-1] for tls in models}
    static = {
        tls: programme
        for tls, programme in running.items()
        if programme.kind == "static" and len(stage_rows(programme)) >= _FEWEST_STAGES
    }
    if not static:
        raise UserError(f"{network.path} has no signal with a static programme of two stages; nothing can be re-timed")
    return static


def _counted(base: Job, pool: Pool) -> Flows:
    return pool.run([replace(base, is_counted=True)])[0].flows


def _prove(base: Job, found: Found, webster: tuple[Plan, ...], pool: Pool, n_seeds: int) -> tuple[Verdict, float]:
    seeds = range(_PROOF_SEED, _PROOF_SEED + n_seeds)
    jobs = [replace(base, controller="plan", plans=found.plans, seed=seed) for seed in seeds]
    jobs += [replace(base, seed=seed) for seed in seeds]
    jobs += [replace(base, controller="plan", plans=webster, seed=seed) for seed in seeds]
    runs = pool.run(jobs, title="proof")
    verdict = judge("retimed", runs[:n_seeds], runs[n_seeds : 2 * n_seeds])
    return verdict, float(np.mean([run.metrics["delay_s"] for run in runs[2 * n_seeds :]]))


def read_counts(path: Path, models: Mapping[str, SignalModel]) -> Flows:
    """Return vehicles per hour by signal and link from a CSV with the columns signal, link, vph.

    Raises BadDataError where a count is negative or no number, a link is unknown, or a link that
    some stage serves has no count: a plan from half the counts would be a wrong plan.
    """
    flows = {tls: [float("nan")] * model.n_links for tls, model in models.items()}
    try:
        with path.open(newline="", encoding="utf-8") as file:
            for number, row in enumerate(csv.DictReader(file), start=2):
                _take(row, flows, f"{path} line {number}")
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BadDataError(f"{path} is not a readable CSV file: {error}") from error
    for tls, model in models.items():
        vehicles = {link for link in model.served if not model.is_crossing[link]}
        missing = sorted(link for link in vehicles if np.isnan(flows[tls][link]))
        if missing:
            raise BadDataError(f"{path} has no count for links {missing} of signal {tls}; give 0 where nobody drives")
        flows[tls] = [0.0 if np.isnan(flow) else flow for flow in flows[tls]]
    return flows


def _take(row: Mapping[str, str | None], flows: dict[str, list[float]], where: str) -> None:
    try:
        tls, link, vph = str(row["signal"]), int(str(row["link"])), float(str(row["vph"]))
    except (KeyError, ValueError) as error:
        raise BadDataError(f"{where}: expected signal, link and vph, got {dict(row)}") from error
    if tls not in flows or not 0 <= link < len(flows[tls]):
        raise BadDataError(f"{where}: the network has no link {link} at a signal {tls!r}")
    if not np.isfinite(vph) or vph < 0:
        raise BadDataError(f"{where}: vehicles per hour must not be negative, got {vph}")
    flows[tls][link] = vph
