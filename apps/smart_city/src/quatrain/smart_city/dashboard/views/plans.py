"""Signal plans: what was re-timed, edited only within the signal's limits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from quatrain.core.dashboard import formats, panels
from quatrain.core.dashboard.card import Fact
from quatrain.core.errors import UserError
from quatrain.smart_city import records
from quatrain.smart_city.dashboard import tables
from quatrain.smart_city.data.network import Network, Phase
from quatrain.smart_city.data.scenario import read_scenario
from quatrain.smart_city.retime.check import check_plan, in_words
from quatrain.smart_city.retime.plan import Plan, to_additional
from quatrain.smart_city.signals.model import SignalModel, signal_models

_PURPOSE = "Fixed-time plans beside the city's own. An edit that breaks a clearance, yellow or green is refused."


def plans() -> None:
    """Draw the chosen re-timing: its proof, one signal's rows to edit, and the greens along the road."""
    with panels.loading():
        found = records.kept("retiming")
    badges = [panels.SYNTHETIC] if found and all(document.get("is_synthetic") for document in found) else []
    panels.header("Signal plans", _PURPOSE, badges=badges)
    if not found:
        panels.empty_state(
            "No plan has been re-timed yet",
            "Re-time a scenario's fixed plans; they appear here to check, edit and export.",
            command="quatrain smart-city retime --scenario city.sumocfg --out plans",
        )
        return
    document = found[st.selectbox("Re-timing", range(len(found)), format_func=lambda index: _title(found[index]))]
    _draw_proof(document)
    signal = st.selectbox("Signal", range(len(document["plans"])), format_func=lambda i: document["plans"][i]["signal"])
    network, models = _read(document["scenario"])
    _draw_editor(document["plans"][signal], models)
    _draw_time_space(document, network)


def _title(document: dict[str, Any]) -> str:
    mark = ", SYNTHETIC" if document.get("is_synthetic") else ""
    return f"{document['data']}, {formats.moment(formats.parse_time(document['at']))}{mark}"


def _draw_proof(document: dict[str, Any]) -> None:
    low, high = document["interval_s"]
    verdict = "Promoted" if document["is_promoted"] else "The city's plan stays"
    panels.strip(
        [
            Fact(label="City's plan", value=f"{document['incumbent_delay_s']:.1f} s", note="delay per vehicle"),
            Fact(label="Re-timed", value=f"{document['delay_s']:.1f} s", note=f"{document['tried']} plans tried"),
            Fact(
                label="Difference", value=f"{document['difference_s']:+.1f} s", note=f"{low:+.1f} to {high:+.1f} (90 %)"
            ),
            Fact(label="Verdict", value=verdict, note=document["reason"]),
        ]
    )


@st.cache_data(show_spinner=False)
def _parsed(path: str, digest: tuple[float, int]) -> tuple[Network, dict[str, SignalModel]]:
    del digest
    network = read_scenario(Path(path)).read_network()
    return network, signal_models(network)


def _read(path: str) -> tuple[Network, dict[str, SignalModel]]:
    if not Path(path).is_file():
        raise UserError(f"the scenario {path} is no longer there; copy it back to check and edit its plans")
    state = Path(path).stat()
    return _parsed(path, (state.st_mtime, state.st_size))


def _draw_editor(sheet: dict[str, Any], models: dict[str, SignalModel]) -> None:
    panels.section("Rows", "Change the seconds of a row; the signal's own limits decide whether it may be shown.")
    frame = tables.plan_frame(sheet)
    edited = st.data_editor(
        frame, disabled=["Shows", "Green links", "State"], hide_index=True, key=f"plan-{sheet['signal']}"
    )
    plan = edited_plan(sheet, edited)
    faults = check_plan(plan, models[plan.tls])
    if faults:
        st.error(
            "\n".join(f"- {formats.plain(in_words(fault))}" for fault in faults), title="This plan may not be shown"
        )
        return
    st.success(f"Cycle {plan.cycle_s:g} s; every limit is kept.")
    st.download_button("Export as SUMO file", to_additional([plan]), file_name=f"{plan.tls}.add.xml")


def edited_plan(sheet: dict[str, Any], frame: pd.DataFrame) -> Plan:
    """Return the plan with the seconds of an edited table."""
    seconds = [float(value) for value in frame["Seconds"]]
    rows = tuple(Phase(state=row["state"], duration_s=s) for row, s in zip(sheet["rows"], seconds, strict=True))
    return Plan(tls=sheet["signal"], name=sheet["plan"], rows=rows, offset_s=float(sheet["offset_s"]))


def _draw_time_space(document: dict[str, Any], network: Network) -> None:
    found = [edited_plan(sheet, tables.plan_frame(sheet)) for sheet in document["plans"]]
    places = {plan.tls: network.nodes[plan.tls][0] for plan in found if plan.tls in network.nodes}
    shown = [plan for plan in found if plan.tls in places]
    if len(shown) > 1:
        panels.section("Greens along the road", "The first row of each signal over three cycles.")
        st.altair_chart(tables.time_space_chart(tables.time_space_frame(shown, places)))
