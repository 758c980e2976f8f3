"""What is known of a model: its measures with their intervals, and whether it does as well for everyone."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st

from quatrain.core.dashboard import formats, grid, panels
from quatrain.core.dashboard.card import Fact
from quatrain.healthcare.dashboard import sources

_PURPOSE = "Measures with 95 % intervals, and the same measures for groups of patients. Not for diagnosis."
_TILES = ("auc", "acc", "ece", "abstained")
_AUDITED = ("auc", "sensitivity", "specificity", "acc", "ece")


def model_audit() -> None:
    """Draw the chosen model's measures and its subgroup audit."""
    with panels.loading():
        versions = sources.versions()
    if not versions:
        panels.header("Model audit", _PURPOSE, badges=[panels.badge("Not for diagnosis", "warn")])
        panels.empty_state(
            "There is no medical model yet",
            "Train one on invented chest radiographs, or on your own images.",
            command="quatrain healthcare train --data chest-phantoms",
        )
        return
    names = [version.reference for version in versions]
    chosen = st.selectbox("Model", names, key="audit-model") if len(names) > 1 else names[0]
    manifest = sources.bundle_of(versions[names.index(chosen)]).manifest
    is_synthetic = bool(manifest.decision.get("is_synthetic"))
    badges = [panels.badge("Not for diagnosis", "warn"), *([panels.SYNTHETIC] if is_synthetic else [])]
    panels.header("Model audit", _PURPOSE, badges=badges)
    split = "test" if "test" in manifest.metrics else "val"
    metrics, intervals = manifest.metrics[split], manifest.intervals.get(split, {})
    panels.strip([_fact(name, metrics, intervals) for name in _TILES if name in metrics])
    panels.section("Measures", f"On the {split} images of {manifest.data['name']}.")
    grid.show(_measures(metrics, intervals), alt="Measures with intervals", rows=12)
    panels.section("Groups", "A group whose interval lies below the others' is one that the model serves worse.")
    groups = manifest.training.get("groups", [])
    if not groups:
        st.caption("The data names no groups, such as sex, age or site.")
        return
    grid.show(_groups(groups), alt="Measures by group", rows=12)


def _fact(name: str, metrics: dict[str, float], intervals: dict[str, Any]) -> Fact:
    note = formats.interval(*intervals[name]) if name in intervals else ""
    return Fact(label=formats.label(name), value=formats.measure(metrics[name]), note=note)


def _measures(metrics: dict[str, float], intervals: dict[str, Any]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "Measure": [formats.label(name) for name in metrics],
            "Value": [formats.measure(value) for value in metrics.values()],
            "95 % interval": [formats.interval(*intervals[name]) if name in intervals else "" for name in metrics],
        }
    )


def _groups(groups: list[dict[str, Any]]) -> pd.DataFrame:
    present = [name for name in _AUDITED if any(name in group["metrics"] for group in groups)]
    rows = []
    for group in groups:
        row = {"Column": formats.label(group["column"]), "Group": group["value"], "Images": group["n"]}
        for name in present:
            row[formats.label(name)] = _cell(group, name)
        rows.append(row)
    return pd.DataFrame(rows)


def _cell(group: dict[str, Any], name: str) -> str:
    if name not in group["metrics"]:
        return ""
    text = formats.measure(group["metrics"][name])
    interval = group["intervals"].get(name)
    return f"{text} [{formats.interval(*interval)}]" if interval else text
