"""Before and after: what each controller cost road users on one scenario."""

from __future__ import annotations

from typing import Any

import streamlit as st

from quatrain.core.dashboard import formats, grid, panels
from quatrain.core.dashboard.card import Fact
from quatrain.smart_city import records
from quatrain.smart_city.dashboard import tables

_PURPOSE = "Controllers on the same demand and seeds. Vehicles that never got in or out count with the time they lost."


def comparison() -> None:
    """Draw the chosen evaluation: what ships, the delay of all, the table, and why the gate chose."""
    with panels.loading():
        found = records.kept("evaluation")
    badges = [panels.SYNTHETIC] if found and all(document.get("is_synthetic") for document in found) else []
    panels.header("Before and after", _PURPOSE, badges=badges)
    if not found:
        panels.empty_state(
            "Nothing has been compared yet",
            "Compare controllers on any SUMO scenario with signals; the result appears here.",
            command="quatrain smart-city evaluate --scenario city.sumocfg",
        )
        return
    document = found[st.selectbox("Comparison", range(len(found)), format_func=lambda index: _title(found[index]))]
    _draw_numbers(document)
    frame = tables.comparison_frame(document)
    panels.section("Delay", "Mean over seeds; the line is the 95 % interval over seeds.")
    st.altair_chart(tables.delay_chart(frame))
    shown = frame.drop(columns=["low", "high"]).round(1)
    grid.show(shown, alt="Measures of each controller", rows=len(shown))
    _draw_gate(document)


def _title(document: dict[str, Any]) -> str:
    mark = ", SYNTHETIC" if document.get("is_synthetic") else ""
    return f"{document['data']}, {formats.moment(formats.parse_time(document['at']))}{mark}"


def _draw_numbers(document: dict[str, Any]) -> None:
    rows = {row["name"]: row for row in document["rows"]}
    facts = [
        Fact(label="Signals", value=str(document["signals"]), note=f"SUMO {document['sumo']}"),
        Fact(label="Vehicles", value=formats.count(document["n"]), note=document["split"]),
    ]
    if "fixed" in rows:
        facts.append(Fact(label="City's plan", value=f"{rows['fixed']['metrics']['delay_s']:.1f} s", note="delay"))
    if "quatrain" in rows:
        ours = rows["quatrain"]
        note = ours["choice"]
        if "delay_vs_fixed_s" in ours:
            low, high = ours["delay_vs_fixed_s"]["interval"]
            note = f"{ours['choice']}, {ours['delay_vs_fixed_s']['difference']:+.1f} s ({low:+.1f} to {high:+.1f})"
        facts.append(Fact(label="Quatrain", value=f"{ours['metrics']['delay_s']:.1f} s", note=note))
    panels.strip(facts)


def _draw_gate(document: dict[str, Any]) -> None:
    verdicts = [verdict for row in document["rows"] for verdict in row.get("gate", ())]
    if not verdicts:
        return
    panels.section("Shadow gate", "Seeds that the table does not use; only what is bounded as not worse may ship.")
    panels.facts({verdict["controller"]: verdict["reason"] for verdict in verdicts})
