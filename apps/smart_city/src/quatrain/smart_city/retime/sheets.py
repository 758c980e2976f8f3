"""Plan sheets: what a SUMO scenario loads, and what a city's engineer reads and keys in."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from quatrain.smart_city.retime.plan import Plan, to_additional
from quatrain.smart_city.signals.model import GREENS, SignalModel

_COLUMNS = ("signal", "plan", "cycle_s", "offset_s", "row", "kind", "seconds", "state", "green_links")


def write_sheets(folder: Path, plans: Sequence[Plan], models: Mapping[str, SignalModel]) -> tuple[Path, ...]:
    """Write plans.add.xml, plans.csv and plans.json into `folder`, each at once; return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = {
        "plans.add.xml": to_additional(plans),
        "plans.csv": to_csv(plans),
        "plans.json": json.dumps({"plans": [to_dict(plan, models[plan.tls]) for plan in plans]}, indent=2) + "\n",
    }
    paths = []
    for name, text in texts.items():
        part = folder / f".{name}.part"
        part.write_text(text, encoding="utf-8")
        paths.append(part.replace(folder / name))
    return tuple(paths)


def to_csv(plans: Sequence[Plan]) -> str:
    """Return one line per row of each plan."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for plan in plans:
        for number, row in enumerate(plan.rows):
            green = [str(link) for link, char in enumerate(row.state) if char in GREENS]
            kind = "change" if "y" in row.state or not green else "green"
            start = (plan.tls, plan.name, f"{plan.cycle_s:g}", f"{plan.offset_s:g}", number, kind)
            writer.writerow((*start, f"{row.duration_s:g}", row.state, " ".join(green)))
    return text.getvalue()


def to_dict(plan: Plan, model: SignalModel) -> dict[str, object]:
    """Return a plan as JSON values, with the limits that it was made within."""
    return {
        "signal": plan.tls,
        "plan": plan.name,
        "cycle_s": plan.cycle_s,
        "offset_s": plan.offset_s,
        "rows": [{"seconds": row.duration_s, "state": row.state} for row in plan.rows],
        "min_green_s": [float(seconds) for seconds in model.min_green_s],
        "yellow_s": [float(seconds) for seconds in model.yellow_s],
    }
