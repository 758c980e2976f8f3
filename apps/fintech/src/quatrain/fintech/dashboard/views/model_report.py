"""The model report: how good the model is beside others, what a threshold costs, and where it comes from."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd
import streamlit as st

from quatrain.core.dashboard import formats, grid, panels
from quatrain.core.dashboard.card import Fact
from quatrain.fintech.dashboard import report, sources
from quatrain.fintech.dashboard.report import Report
from quatrain.fintech.dashboard.sources import SealedModel

_PURPOSE = "How well the model ranks fraud beside other models, what an alert budget buys, and what it was made from."
# Per 1,000 transactions: one in ten is more than anybody reviews.
_MOST_ALERTS = 100.0
_SPLITS = {"Test": "test", "Validation": "valid"}


def model_report() -> None:
    """Draw the report of the chosen version."""
    versions = sources.versions()
    if not versions:
        panels.header("Model report", _PURPOSE)
        panels.empty_state(
            "There is no fraud model yet",
            "Train one first. This uses a public set of real card transactions; it is downloaded once.",
            command="quatrain fintech train --data ulb-creditcard",
        )
        return
    title = st.container()
    with panels.loading():
        model = _pick_version()
    with title:
        panels.header("Model report", _PURPOSE, badges=_badges(model))
    _draw_numbers(model)
    found = sources.report_of(model)
    if found is None:
        st.info(
            "The folder of the training run is not on this machine, so curves are missing. "
            "The numbers above are those sealed in the model.",
            title="Only the sealed numbers are here",
        )
    else:
        _draw_comparison(found)
        _draw_curves(model, found)
        _draw_simulator(model, found)
    _draw_lineage(model)


def _pick_version() -> SealedModel:
    versions = {str(version.number): version for version in sources.versions()}
    in_use = sources.production_version()
    default = list(versions).index(str(in_use.number)) if in_use else 0
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.html('<span class="q-muted">Version</span>', width="content")
        number = st.selectbox(
            "Version",
            list(versions),
            index=default,
            key="version",
            bind="query-params",
            label_visibility="collapsed",
            width=110,
        )
    return sources.sealed_model(versions[number])


def _badges(model: SealedModel) -> list[str]:
    badges = [panels.badge(model.version.reference, "accent")]
    if sources.is_in_use(model.version):
        badges.append(panels.badge("in use", "good"))
    if model.decision.get("is_synthetic"):
        badges.append(panels.SYNTHETIC)
    return badges


def _draw_numbers(model: SealedModel) -> None:
    manifest = model.bundle.manifest
    values, intervals = manifest.metrics.get("test", {}), manifest.intervals.get("test", {})
    facts = [_fact(name, values[name], intervals.get(name)) for name in ("ap", "auc", "value_recall") if name in values]
    threshold, budget = model.decision.get("threshold"), model.decision.get("alert_budget")
    facts.append(
        Fact(
            label="Alerts start at",
            value=formats.measure(threshold),
            note=f"for a budget of {formats.share(budget, digits=2)} of transactions",
        )
    )
    panels.strip(facts)


def _fact(name: str, value: float, interval: tuple[float, float] | None) -> Fact:
    measure = report.measure_of(name)
    note = f"95 % interval {formats.interval(*interval)}" if interval else measure.meaning
    return Fact(label=measure.label, value=formats.share(value) if measure.is_share else f"{value:.3f}", note=note)


def _draw_comparison(found: Report) -> None:
    from quatrain.fintech.dashboard import report_charts  # Altair: most of a second that other pages need not pay

    with st.container(border=True, gap="small"):
        with st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="center"):
            panels.section(
                "Beside other models", "All on the same transactions, the last ones in time; 95 % intervals."
            )
            split = st.segmented_control(
                "Rows", list(_SPLITS), default="Test", required=True, key="split", label_visibility="collapsed"
            )
        table = report.metric_table(found.rows, split=_SPLITS[split], champion=found.champion)
        grid.show(table, columns=_metric_columns(table), alt="Measures of each model")
        frame = report.interval_frame(found.rows, measure="ap", champion=found.champion)
        if len(frame) > 1:
            st.altair_chart(
                report_charts.intervals(frame, title="Average precision on the test transactions"),
                alt="Average precision of each model with its interval",
            )


def _metric_columns(table: pd.DataFrame) -> dict[str, Any]:
    meanings = {report.measure_of(name).label: report.measure_of(name).meaning for name in report.MEASURES}
    columns: dict[str, Any] = {
        name: st.column_config.TextColumn(help=meanings.get(name) or None) for name in table.columns if name != "Model"
    }
    columns["Transactions"] = st.column_config.NumberColumn(format="localized", width=100)
    return columns


def _draw_curves(model: SealedModel, found: Report) -> None:
    from quatrain.core.dashboard import charts
    from quatrain.fintech.dashboard import report_charts

    threshold = model.decision.get("threshold")
    with st.grid(2, min_column_width=380, gap="medium"):
        _panel(
            "Caught against right",
            "Further down the ranking more frauds are caught, and fewer alerts are fraud.",
            lambda: report_charts.precision_recall(found.precision_recall, threshold=threshold),
        )
        _panel(
            "Where scores fall",
            "Test transactions by score, on a logarithmic scale.",
            lambda: report_charts.score_histogram(found.histogram, threshold=threshold),
        )
        _panel(
            "Does the chance of fraud mean what it says?",
            "On the dashed line, of transactions with a chance of 70 % seven in ten were fraud.",
            lambda: report_charts.calibration(found.calibration),
        )
        if len(found.importance):
            frame = found.importance.assign(
                ap_drop=found.importance["ap_drop"].round(3), feature=found.importance["feature"].map(formats.label)
            )
            _panel(
                "What the model relies on",
                "How far average precision falls when all that the model knows of it is shuffled.",
                lambda: charts.bars(frame, label="feature", value="ap_drop", height_per_bar=22),
            )


def _panel(title: str, note: str, chart: Callable[[], Any]) -> None:
    with st.container(border=True, gap="small", height="stretch"):
        panels.section(title, note)
        st.altair_chart(chart(), alt=f"{title}: {note}")


def _draw_simulator(model: SealedModel, found: Report) -> None:
    from quatrain.fintech.dashboard import report_charts

    counts = found.histogram.groupby("kind")["n"].sum()
    n_frauds = int(counts.get("Fraud", 0))
    if not n_frauds or found.precision_recall.empty:
        return
    curve = report.budget_curve(found.precision_recall, n_rows=int(counts.sum()), n_frauds=n_frauds)
    with st.container(border=True, gap="small"):
        panels.section(
            "What would another alert budget buy?",
            "On the test transactions. The budget is sealed in the model: to change it, train again with this setting.",
        )
        left, right = st.columns([2, 3], gap="large", vertical_alignment="center")
        with left:
            alerts = _choose_budget(model)
            _draw_outcome(curve, alerts=alerts, n_rows=int(counts.sum()), n_frauds=n_frauds)
        with right:
            st.altair_chart(report_charts.budget(_long(curve), chosen=alerts), alt="Frauds caught by alert budget")


def _draw_outcome(curve: pd.DataFrame, *, alerts: float, n_rows: int, n_frauds: int) -> None:
    precision, recall = report.at_budget(curve, alerts=alerts)
    n_caught = round(recall * n_frauds)
    n_alerts = round(n_caught / precision) if precision else 0
    panels.tiles(
        [
            Fact(
                label="Frauds caught",
                value=formats.share(recall),
                note=f"{formats.count(n_caught)} of {formats.count(n_frauds)}",
            ),
            Fact(
                label="Alerts that are fraud",
                value=formats.share(precision),
                note=f"{formats.count(n_alerts)} alerts on {formats.count(n_rows)} transactions",
            ),
        ]
    )
    st.code(f"--set alert_budget={alerts / 1000:g}", language="bash")


def _long(curve: pd.DataFrame) -> pd.DataFrame:
    names = {"recall": "Frauds caught", "precision": "Alerts that are fraud"}
    shown = curve[curve["alerts"] <= _MOST_ALERTS].rename(columns=names)
    return shown.melt(id_vars="alerts", value_vars=list(names.values()), var_name="measure")


def _choose_budget(model: SealedModel) -> float:
    sealed = float(model.decision.get("alert_budget") or 0.001) * 1000
    options = sorted({0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, _MOST_ALERTS, sealed})
    return float(
        st.select_slider(
            "Alerts per 1,000 transactions", options, value=sealed, format_func=lambda value: f"{value:g}", key="budget"
        )
    )


def _draw_lineage(model: SealedModel) -> None:
    manifest = model.bundle.manifest
    data = manifest.data
    with st.grid(2, min_column_width=380, gap="medium"):
        with st.container(border=True, gap="small", height="stretch"):
            panels.section("Where it comes from", "Sealed and signed with the model; a changed byte would be refused.")
            panels.facts(
                {
                    "Model": _model_name(dict(manifest.training.get("recipe", {}))),
                    "Trained": formats.moment(formats.parse_time(manifest.created)),
                    "Published": formats.moment(formats.parse_time(model.version.published)),
                    "Digest": formats.digest(model.bundle.digest),
                    "Signed by": model.bundle.signer,
                    "Training run": str(manifest.training.get("run", formats.NONE)),
                    "Data": str(data.get("name", formats.NONE)),
                    "Data digest": formats.digest(str(data.get("sha256", ""))),
                    "Period": f"{data.get('from', formats.NONE)} to {data.get('to', formats.NONE)}",
                    "Transactions": f"{_count(data.get('rows'))}, of them {_count(data.get('frauds'))} fraud",
                    "Licence": str(data.get("licence") or "the owner's own data"),
                    "Software": ", ".join(f"{name} {version}" for name, version in manifest.software.items()),
                }
            )
        with st.container(border=True, gap="small", height="stretch"):
            panels.section("Card")
            with st.container(height=470, border=False):
                st.markdown(_card_markdown(model.bundle.card))


def _model_name(recipe: Mapping[str, Any]) -> str:
    return str(recipe.get("model") or recipe.get("trees") or formats.NONE)


def _card_markdown(card: str) -> str:
    """Return the card two heading levels down, and without pictures: they would be fetched from anywhere."""
    return re.sub(r"^(#{1,4} )", r"##\1", card, flags=re.MULTILINE).replace("![", "[")


def _count(value: object) -> str:
    return formats.count(value) if isinstance(value, int | float) else formats.NONE
