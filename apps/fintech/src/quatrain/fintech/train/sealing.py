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
from quatrain.core.store import Store
from quatrain.fintech import journal
from quatrain.fintech.data.columns import ColumnMap, ExtraColumns
from quatrain.fintech.data.named import TASK
from quatrain.fintech.data.table import Labelled
from quatrain.fintech.evaluate.protocol import Row
from quatrain.fintech.features.build import reference_values
from quatrain.fintech.features.names import horizon_us, needs_history
from quatrain.fintech.features.row import DAY_US
from quatrain.fintech.metrics.scored import Labels
from quatrain.fintech.train.card import write_card
from quatrain.fintech.train.champion import OUTPUTS, Champion
from quatrain.fintech.train.config import MODEL_NAME, TrainConfig
from quatrain.fintech.train.material import Material

if TYPE_CHECKING:
    from quatrain.core.bundle.open import Bundle
    from quatrain.core.store import Version

_LOG = logging.getLogger(__name__)
# What the shipped model is called in tables.
NAME = "quatrain"
# Rows whose answers are sealed with the model, half of them made of frauds' values.
_GOLDEN_ROWS = 64


def decide(config: TrainConfig, material: Material, champion: Champion) -> dict[str, Any]:
    """Return what the manifest says of the decision: threshold, usual values, mapping, what is known when."""
    x, label = material.known
    return {
        "threshold": champion.threshold.threshold,
        # Calibrated probabilities may tie where raw scores do not.
        "threshold_on": "score",
        "alert_budget": config.alert_budget,
        # The share of alerts to expect of a coming week.
        "alert_rate": {name: getattr(champion.threshold, name) for name in ("rate", "low", "high", "horizon_days")},
        "label_delay_days": material.label_delay_us / DAY_US,
        "reference": reference_values(x[~label], material.names),
        "columns": _sealed_mapping(material.data.mapping, material.labelled).model_dump(mode="json"),
        "calibration": champion.calibration.summary(),
        "is_synthetic": material.is_synthetic,
    }


def seal_champion(
    path: Path,
    *,
    champion: Champion,
    material: Material,
    rows: Sequence[Row],
    decision: dict[str, Any],
    training: dict[str, Any],
) -> Bundle:
    """Return the signed bundle at `path`, with the champion's measures and card."""
    golden = _golden_rows(*material.known)
    shipped = {row.split: row for row in rows if row.name == NAME}
    card = write_card(
        rows=[row for row in rows if row.split == "test"],
        data=material.facts(),
        decision=decision,
        training=training,
        names=material.names,
    )
    return seal(
        path,
        name=MODEL_NAME,
        task=TASK,
        onnx=champion.onnx,
        inputs=[
            TensorSpec(name="features", dtype="float32", shape=("batch", len(material.names)), columns=material.names)
        ],
        outputs=[TensorSpec(name=name, dtype="float32", shape=("batch",), low=0.0, high=1.0) for name in OUTPUTS],
        golden_inputs={"features": golden},
        golden_outputs=champion.predict(golden),
        card=card,
        metrics={split: row.metrics for split, row in shipped.items()},
        intervals={split: row.intervals for split, row in shipped.items()},
        training=training,
        data=material.facts(),
        decision=decision,
        weights=champion.exported.weights,
    )


def publish(bundle: Bundle, *, promote: Literal["auto", "yes", "no"]) -> Version:
    """Return the bundle's version in the store; "auto" promotes it to prod if prod means nothing yet."""
    store = Store()
    has_prod = MODEL_NAME in store.names() and "prod" in store.aliases(MODEL_NAME)
    is_promoted = promote == "yes" or (promote == "auto" and not has_prod)
    version = store.publish(bundle, alias="prod" if is_promoted else None)
    _LOG.info("published %s%s", version.reference, ", which prod now means" if is_promoted else "")
    return version


def keep_history(bundle: Bundle, material: Material) -> None:
    """Keep the last transactions on this machine, beside the model, so that its first scoring knows each card."""
    if needs_history(material.names):
        horizon = horizon_us(material.names, material.label_delay_us)
        journal.save_for(bundle.digest, material.labelled.table, horizon_us=horizon)


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
