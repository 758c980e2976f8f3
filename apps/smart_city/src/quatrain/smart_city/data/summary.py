"""What a scenario holds, in words that a traffic engineer checks before anything runs."""

from __future__ import annotations

from typing import Any

from quatrain.smart_city.data.scenario import Scenario
from quatrain.smart_city.signals.model import signal_models


def describe_scenario(scenario: Scenario) -> dict[str, Any]:
    """Return JSON values: the scenario's times, and for each signal its stages and the times that it keeps."""
    network = scenario.read_network()
    models = signal_models(network)
    return {
        "scenario": scenario.name,
        "begin_s": scenario.begin_s,
        "end_s": scenario.end_s,
        "lanes": sum(lane.is_for_cars and not lane.edge.startswith(":") for lane in network.lanes.values()),
        "signals": [
            {
                "signal": tls,
                "programmes": len(network.programmes[tls]),
                "stages": len(model.stages),
                "links": model.n_links,
                "crossings": int(model.is_crossing.sum()),
                "cycle_s": model.cycle_s,
                "yellow_s": float(model.yellow_s.max()),
                "longest_intergreen_s": float(model.intergreen_s[model.conflicts].max(initial=0.0)),
            }
            for tls, model in models.items()
        ],
    }
