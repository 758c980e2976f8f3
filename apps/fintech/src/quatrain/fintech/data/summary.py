"""What transaction files hold, and what is wrong with them."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from quatrain.core.errors import BadDataError, ExitCode
from quatrain.fintech.data.columns import ENTITIES, LABEL, ColumnMap
from quatrain.fintech.data.named import NamedData
from quatrain.fintech.data.read import layout_for_model, read_batches
from quatrain.fintech.data.source import open_source
from quatrain.fintech.data.table import Rejections, files_of, load_labelled


def describe_labelled(data: NamedData) -> dict[str, Any]:
    """Return counts, period and columns of labelled data, bad rows left out."""
    labelled = load_labelled(data.path, data.mapping, max_bad_ratio=1.0)
    if not len(labelled):
        reasons = ", ".join(f"{reason} ({count})" for reason, count in labelled.rejections.counts.most_common(5))
        raise BadDataError(f"{data.path.name} has no good row: {reasons}")
    first, last = (datetime.fromtimestamp(int(t) / 1e6, tz=UTC) for t in labelled.timestamp_us[[0, -1]])
    n_fraud = int(labelled.label.sum())
    n_labelled = int(labelled.is_labelled.sum())
    return {
        "data": data.name,
        "is_synthetic": labelled.is_synthetic or data.is_synthetic,
        "rows": len(labelled),
        "bad_rows": labelled.rejections.total,
        "frauds": n_fraud,
        "unlabelled_rows": len(labelled) - n_labelled,
        "fraud_rate": n_fraud / n_labelled if n_labelled else None,
        "first": first.isoformat(),
        "last": last.isoformat(),
        "amount_total": float(labelled.amount.sum()),
        "amount_fraud": float(labelled.amount[labelled.label].sum()),
        **{f"{name}s": len(labelled.table[name].unique()) for name in ENTITIES if name in labelled.table.column_names},
        "extra_columns": list(labelled.extras),
        "sha256": labelled.digest,
    }


def validate_files(data: NamedData) -> dict[str, Any]:
    """Return per file the good and bad rows, the reasons with one example each, and why it would be refused."""
    files = [_validate(path, data.mapping) for path in files_of(data.path)]
    is_refused = any(file["refused"] for file in files)
    return {"files": files, "exit_code": int(ExitCode.BAD_DATA if is_refused else ExitCode.DONE)}


def _validate(path: Path, mapping: ColumnMap) -> dict[str, Any]:
    rejections, n_good, refused = Rejections(), 0, None
    extras = () if mapping.extra.numeric == "all" else mapping.extra.numeric
    try:
        source = open_source(path, mapping.csv)
        has_label = mapping.source(LABEL) in source.names and mapping.source(LABEL) not in mapping.extra.ignore
        layout = layout_for_model(source, mapping, extras=extras, has_label=has_label)
        for batch in read_batches(source, layout, mapping, reject=rejections):
            n_good += batch.num_rows
        if n_good == 0:
            refused = "no row can be scored"
    except BadDataError as error:
        refused = str(error)
    return {
        "file": path.name,
        "good": n_good,
        "bad": rejections.total,
        "reasons": dict(rejections.counts.most_common()),
        "examples": rejections.examples,
        "refused": refused,
    }
