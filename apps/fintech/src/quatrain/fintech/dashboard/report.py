"""What a training run left about a model, as tables for the model report page."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from quatrain.core.config import settings
from quatrain.core.dashboard import formats

# The file that `quatrain fintech train` writes into its run's folder.
REPORT = "report.json"
_PER_MILLE = 1000


@dataclass(frozen=True, kw_only=True)
class Measure:
    """How a measure is written and what it means to somebody who does not train models."""

    label: str
    meaning: str
    is_share: bool = False


MEASURES: Mapping[str, Measure] = {
    "ap": Measure(label="Average precision", meaning="How well frauds are ranked above the rest; 1 is perfect"),
    "auc": Measure(label="AUC", meaning="How often a fraud scores above a legitimate transaction; 0.5 is chance"),
    "value_recall": Measure(
        label="Value caught", meaning="Share of the stolen amount that falls within the alert budget", is_share=True
    ),
    "precision": Measure(label="Alerts right", meaning="Share of the alerts at the sealed threshold that were fraud"),
    "recall": Measure(label="Frauds caught", meaning="Share of the frauds that became alerts at the sealed threshold"),
    "ece": Measure(
        label="Calibration error", meaning="How far the chance is from the share that was fraud; 0 is perfect"
    ),
}


@dataclass(frozen=True, kw_only=True)
class Report:
    """The report of one training run; tables are empty where the run wrote none."""

    champion: str
    rows: Sequence[Mapping[str, Any]]
    precision_recall: pd.DataFrame
    calibration: pd.DataFrame
    histogram: pd.DataFrame
    importance: pd.DataFrame


def report_path(run_id: str) -> Path:
    """Return where the report of a training run lies; a name cannot leave the runs folder."""
    return settings().runs_dir / Path(run_id).name / REPORT


def read_report(path: Path, *, digest: str) -> Report | None:
    """Return the report, None when it is of another bundle: reports are not signed."""
    document = json.loads(path.read_text(encoding="utf-8"))
    if document.get("digest") != digest:
        return None
    importance = pd.DataFrame(document["importance"], columns=["feature", "ap_drop"])
    return Report(
        champion=document["champion"],
        rows=document["rows"],
        precision_recall=pd.DataFrame(document["precision_recall"], columns=["threshold", "precision", "recall"]),
        calibration=pd.DataFrame(document["calibration"], columns=["n", "score", "rate"]),
        histogram=_histogram(document["score_histogram"]),
        importance=importance[importance["ap_drop"] > 0].head(12),
    )


def measure_of(name: str) -> Measure:
    """Return how a measure is written; card precision carries its number of cards in its name."""
    if name in MEASURES:
        return MEASURES[name]
    if name.startswith("cp_"):
        k = name.removeprefix("cp_")
        return Measure(label=f"Card precision at {k}", meaning=f"Share of the {k} top cards of a day that were fraud")
    return Measure(label=formats.label(name), meaning="")


def model_name(row: Mapping[str, Any]) -> str:
    """Return how a model is named in a table."""
    return str(row["name"]).replace("_", " ")


def metric_table(rows: Sequence[Mapping[str, Any]], *, split: str, champion: str) -> pd.DataFrame:
    """Return one row per model: its name, each measure with its interval, and on how many rows."""
    shown = [row for row in rows if row["split"] == split]
    found = list(dict.fromkeys(name for row in shown for name in row["metrics"]))
    names = [name for name in found if name in MEASURES or name.startswith("cp_")]
    records = []
    for row in shown:
        cells = {measure_of(name).label: _cell(row, name) for name in names}
        model = f"{model_name(row)} (chosen)" if row["name"] == champion else model_name(row)
        records.append({"Model": model, **cells, "Transactions": row["n"]})
    return pd.DataFrame(records)


def interval_frame(rows: Sequence[Mapping[str, Any]], *, measure: str, champion: str) -> pd.DataFrame:
    """Return name, value, low, high and is_champion of a measure on the test rows, those with an interval."""
    found = [
        {
            "name": model_name(row),
            "value": row["metrics"][measure],
            "low": row["intervals"][measure][0],
            "high": row["intervals"][measure][1],
            "is_champion": row["name"] == champion,
        }
        for row in rows
        if row["split"] == "test" and measure in row["metrics"] and measure in row["intervals"]
    ]
    return pd.DataFrame(found, columns=["name", "value", "low", "high", "is_champion"])


def budget_curve(precision_recall: pd.DataFrame, *, n_rows: int, n_frauds: int) -> pd.DataFrame:
    """Return alerts per 1,000 transactions, precision and recall, by rising number of alerts.

    Of F frauds, recall r at precision p means r * F / p alerts.
    """
    alerts = precision_recall["recall"] * n_frauds / precision_recall["precision"] / n_rows * _PER_MILLE
    frame = precision_recall[["precision", "recall"]].assign(alerts=alerts)
    return frame.sort_values("alerts").reset_index(drop=True)


def at_budget(curve: pd.DataFrame, *, alerts: float) -> tuple[float, float]:
    """Return (precision, recall) of the largest number of alerts within `alerts` per 1,000.

    With a budget of less than the first alert, that one counts: a model that never alerts helps nobody.
    """
    row = curve.iloc[max(int((curve["alerts"] <= alerts).sum()) - 1, 0)]
    return float(row["precision"]), float(row["recall"])


def _cell(row: Mapping[str, Any], name: str) -> str:
    if name not in row["metrics"]:
        return formats.NONE
    digits = 4 if name == "ece" else 3
    text = f"{row['metrics'][name]:.{digits}f}"
    if name in row["intervals"]:
        low, high = row["intervals"][name]
        text += f" ({formats.interval(low, high, digits=digits)})"
    return text


def _histogram(bins: Sequence[Mapping[str, float]]) -> pd.DataFrame:
    records = [
        {"low": one["low"], "high": one["high"], "kind": kind, "n": one[key]}
        for one in bins
        for kind, key in (("Legitimate", "legitimate"), ("Fraud", "fraud"))
    ]
    return pd.DataFrame(records, columns=["low", "high", "kind", "n"])
