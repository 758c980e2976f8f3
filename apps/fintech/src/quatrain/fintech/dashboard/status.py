"""Where card fraud stands now, for the overview."""

from __future__ import annotations

from quatrain.core.dashboard import formats
from quatrain.core.dashboard.card import Fact, Status
from quatrain.core.jobs.history import JobRun
from quatrain.core.store import Version
from quatrain.fintech.dashboard import alert_table, sources


def status() -> Status:
    """Return model, last batch and open alerts, or the exact next command."""
    version = sources.production_version()
    if version is None:
        return Status(
            state="empty",
            headline="No model yet",
            next_step="Train one on a public set of real card transactions",
            command="quatrain fintech train --data ulb-creditcard",
        )
    run = sources.last_batch()
    model = Fact(label="Model", value=version.reference, note=_model_note(version))
    if run is None:
        return Status(
            state="attention",
            headline="Nothing scored yet",
            facts=(model,),
            next_step="Score a file of transactions",
            command="quatrain fintech score --data transactions.csv",
        )
    frame = sources.current_alerts()
    summary = alert_table.summarise(frame)
    queue = Fact(
        label="Open alerts",
        value=formats.count(summary.n_open),
        note=f"{formats.money(summary.open_amount)} at risk",
    )
    batch = Fact(label="Last batch", value=formats.ago(run.started), note=batch_note(run))
    return Status(
        state="good" if run.status in {"done", "running"} else "attention",
        headline=_headline(run),
        facts=(queue, batch, model),
        is_synthetic=bool(frame["is_synthetic"].any()),
    )


def _headline(run: JobRun) -> str:
    words = {"done": "Up to date", "running": "Scoring now", "bad_data": "Some data was refused"}
    return words.get(run.status, "Last batch failed")


def batch_note(run: JobRun | None) -> str:
    """Return what the last batch did, in words."""
    if run is None:
        return "no batch yet"
    if not run.units.get("new"):
        return "nothing new to score"
    parts = [formats.plural(run.rows, "transaction")]
    if run.bad_rows:
        parts.append(f"{formats.plural(run.bad_rows, 'row')} rejected")
    if refused := run.units.get("refused", 0) + run.units.get("failed", 0):
        parts.append(f"{formats.plural(refused, 'file')} refused")
    return ", ".join(parts)


def _model_note(version: Version) -> str:
    model = sources.sealed_model(version)
    precision = model.bundle.manifest.metrics.get("test", {}).get("ap")
    trained = formats.parse_time(model.bundle.manifest.created)
    score = f"average precision {precision:.3f}, " if precision is not None else ""
    return f"{score}trained {formats.ago(trained)}"
