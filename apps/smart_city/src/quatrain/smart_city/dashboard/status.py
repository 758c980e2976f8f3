"""Where signal timing stands now, for the overview."""

from __future__ import annotations

from typing import Any

from quatrain.core.dashboard import formats
from quatrain.core.dashboard.card import Fact, Status
from quatrain.smart_city import records


def status() -> Status:
    """Return the last comparison and plan, or the exact next command."""
    evaluations, retimings = records.kept("evaluation"), records.kept("retiming")
    if not evaluations:
        return Status(
            state="empty",
            headline="Nothing compared yet",
            next_step="Compare controllers on a SUMO scenario",
            command="quatrain smart-city evaluate --scenario city.sumocfg",
        )
    last = evaluations[0]
    facts = [Fact(label="Last comparison", value=last["data"], note=formats.ago(formats.parse_time(last["at"])))]
    shipped = next((row for row in last["rows"] if "choice" in row), None)
    if shipped is not None:
        own = next((row for row in last["rows"] if row["name"] == "fixed"), None)
        note = f"{own['metrics']['delay_s']:.1f} s under the city's plan" if own else ""
        facts.append(Fact(label="Delay", value=f"{shipped['metrics']['delay_s']:.1f} s", note=note))
    if retimings:
        kept = "promoted" if retimings[0]["is_promoted"] else "the city's plan stays"
        facts.append(Fact(label="Last re-timing", value=retimings[0]["data"], note=kept))
    return Status(
        state="good",
        headline="Compared",
        facts=tuple(facts),
        is_synthetic=any(map(_is_synthetic, evaluations + retimings)),
    )


def _is_synthetic(document: dict[str, Any]) -> bool:
    return bool(document.get("is_synthetic"))
