"""The traffic app on a generated arterial, for `quatrain demo`; everything in it is SYNTHETIC."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from quatrain.core.demo import DemoRow
from quatrain.smart_city.controllers.registry import SHIPPED
from quatrain.smart_city.evaluate import EvaluateConfig, evaluate
from quatrain.smart_city.gate import INCUMBENT
from quatrain.smart_city.networks.config import NetworkConfig
from quatrain.smart_city.networks.generate import generate_scenario
from quatrain.smart_city.retime.config import RetimeConfig
from quatrain.smart_city.retime.run import retime

# Three signals on a main road, eight minutes: small enough for a laptop, busy enough to queue.
_WORLD = NetworkConfig(kind="arterial", columns=3, duration_s=480, cool_down_s=60, lane_vph=280, seed=7)
_SEEDS = (1, 2, 3)
_SHOWN = ("delay_s", "trip_s", "wait_s", "undeparted")
_RESULTS = "results.json"
# Plans that the demo's re-timing tries.
_BUDGET = 18


def demo(folder: Path) -> list[DemoRow]:
    """Return the delay under the city's plan, SUMO's actuated control, Quatrain's shipped choice, and a new plan.

    A second call in the same folder simulates nothing again.
    """
    folder.mkdir(parents=True, exist_ok=True)
    results = folder / _RESULTS
    if not results.exists():
        rows = _measure(folder)
        part = results.with_name(results.name + ".part")
        part.write_text(json.dumps(rows), encoding="utf-8")
        part.replace(results)
    return [_row(row) for row in json.loads(results.read_text(encoding="utf-8"))]


def _measure(folder: Path) -> list[dict[str, Any]]:
    scenario = generate_scenario(_WORLD, folder / "arterial")
    table = evaluate(
        EvaluateConfig(scenario=scenario, controllers=(INCUMBENT, "actuated", SHIPPED), seeds=_SEEDS, n_gate_seeds=2)
    )
    rows = [
        {**row, "name": f"quatrain ({row['choice']})" if row["name"] == SHIPPED else row["name"]}
        for row in table["rows"]
    ]
    plan = retime(RetimeConfig(scenario=scenario, out=folder / "plans", budget=_BUDGET, n_proof_seeds=3, patience=3))
    delay = plan.verdict.delay_s if plan.is_promoted else plan.verdict.incumbent_delay_s
    return [*rows, {"name": "re-timed fixed plan", "metrics": {"delay_s": delay}, "intervals": {}}]


def _row(row: dict[str, Any]) -> DemoRow:
    return DemoRow(
        app="smart-city",
        data="arterial (synthetic)",
        model=row["name"],
        metrics={name: row["metrics"][name] for name in _SHOWN if name in row["metrics"]},
        intervals={name: tuple(row["intervals"][name]) for name in _SHOWN[:1] if name in row["intervals"]},
    )
