"""The champion as a signed bundle, and its place in the store."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from quatrain.core.bundle.manifest import TensorSpec
from quatrain.core.bundle.seal import seal
from quatrain.core.inference import open_session
from quatrain.core.store import Store
from quatrain.fintech.data.columns import ColumnMap, ExtraColumns
from quatrain.fintech.data.named import TASK
from quatrain.fintech.data.table import Labelled
from quatrain.fintech.evaluate.protocol import Row
from quatrain.fintech.features.build import reference_values
from quatrain.fintech.metrics.alerts import threshold_for_budget
from quatrain.fintech.metrics.scored import Labels
from quatrain.fintech.train.candidates import Final, Trial
from quatrain.fintech.train.card import write_card
from quatrain.fintech.train.config import MODEL_NAME, TrainConfig
from quatrain.fintech.train.material import Material

if TYPE_CHECKING:
    from quatrain.core.bundle.open import Bundle
    from quatrain.core.store import Version

_LOG = logging.getLogger(__name__)
# Rows whose answers are sealed with the model, half of them made of frauds' values.
_GOLDEN_ROWS = 64


def decide(config: TrainConfig, material: Material, champion: Trial) -> dict[str, Any]:
    """Return what the manifest says of the decision: threshold, usual values, mapping."""
    x, label = material.past
    # Scores are float32 when the model runs; a threshold between two of them would move an alert.
    threshold = threshold_for_budget(champion.score.astype(np.float32), budget=config.alert_budget)
    return {
        "threshold": threshold,
        "alert_budget": config.alert_budget,
        "reference": reference_values(x[~label], material.names),
        "columns": _sealed_mapping(material.data.mapping, material.labelled).model_dump(mode="json"),
        "model": champion.candidate.kind,
        "is_synthetic": material.is_synthetic,
    }


def seal_champion(
    path: Path,
    *,
    final: Final,
    material: Material,
    rows: Sequence[Row],
    decision: dict[str, Any],
    training: dict[str, Any],
) -> Bundle:
    """Return the signed bundle at `path`, with the champion's measures and card."""
    golden = _golden_rows(*material.past)
    answer = open_session(final.exported.onnx).run(["probability"], {"features": golden})[0]
    shipped = {row.split: row for row in rows if row.name == final.name}
    test_rows = [row for row in rows if row.split == "test"]
    card = write_card(
        champion=final.name,
        rows=test_rows,
        data=material.facts(),
        decision=decision,
        names=material.names,
    )
    return seal(
        path,
        name=MODEL_NAME,
        task=TASK,
        onnx=final.exported.onnx,
        inputs=[
            TensorSpec(name="features", dtype="float32", shape=("batch", len(material.names)), columns=material.names)
        ],
        outputs=[TensorSpec(name="probability", dtype="float32", shape=("batch",), low=0.0, high=1.0)],
        golden_inputs={"features": golden},
        golden_outputs={"probability": answer},
        card=card,
        metrics={split: row.metrics for split, row in shipped.items()},
        intervals={split: row.intervals for split, row in shipped.items()},
        training=training,
        data=material.facts(),
        decision=decision,
        weights=final.exported.weights,
    )


def publish(bundle: Bundle, *, promote: Literal["auto", "yes", "no"]) -> Version:
    """Return the bundle's version in the store; "auto" promotes it to prod if prod means nothing yet."""
    store = Store()
    has_prod = MODEL_NAME in store.names() and "prod" in store.aliases(MODEL_NAME)
    is_promoted = promote == "yes" or (promote == "auto" and not has_prod)
    version = store.publish(bundle, alias="prod" if is_promoted else None)
    _LOG.info("published %s%s", version.reference, ", which prod now means" if is_promoted else "")
    return version


def _sealed_mapping(mapping: ColumnMap, labelled: Labelled) -> ColumnMap:
    extra = ExtraColumns(numeric=labelled.extras, ignore=mapping.extra.ignore)
    return mapping.model_copy(update={"extra": extra})


def _golden_rows(x: NDArray[np.float32], label: Labels) -> NDArray[np.float32]:
    """Return rows whose columns are drawn apart: typical values, and no real transaction leaves in a bundle."""
    rng = np.random.default_rng(0)
    frauds, others = np.flatnonzero(label), np.flatnonzero(~label)
    half = _GOLDEN_ROWS // 2
    columns = [np.concatenate([column[rng.choice(frauds, half)], column[rng.choice(others, half)]]) for column in x.T]
    return np.ascontiguousarray(np.stack(columns, axis=1), dtype=np.float32)
