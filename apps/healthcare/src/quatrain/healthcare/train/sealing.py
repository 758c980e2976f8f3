"""A fitted model as a signed bundle, and its place in the store."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from quatrain.core.bundle.manifest import TensorSpec
from quatrain.core.bundle.seal import seal
from quatrain.core.store import Store
from quatrain.healthcare.checks import Checks
from quatrain.healthcare.data.duplicates import Duplicate
from quatrain.healthcare.data.labelled import Labelled
from quatrain.healthcare.data.named import TASK
from quatrain.healthcare.decision import NOT_FOR_DIAGNOSIS, Decision
from quatrain.healthcare.metrics.measure import Row
from quatrain.healthcare.models.outputs import DISTANCE, EMBEDDING, INPUT, LOGITS, OUTPUTS, PROBABILITY
from quatrain.healthcare.train.card import write_card
from quatrain.healthcare.train.fitting import Fitted

if TYPE_CHECKING:
    from quatrain.core.bundle.open import Bundle
    from quatrain.core.store import Version

_LOG = logging.getLogger(__name__)
_N_GOLDEN, _N_BLENDED = 16, 6
# Embeddings sealed for the site-shift alarm: rows, main directions, and digits that are enough for a rank test.
_N_REFERENCE, _N_DIRECTIONS, _DIGITS = 512, 16, 3
# Largest difference from the golden outputs, relative to distances of the order of ten.
_GOLDEN_ATOL = 2e-3


def seal_model(
    path: Path,
    *,
    name: str,
    fitted: Fitted,
    data: Labelled,
    decision: Decision,
    checks: Checks,
    rows: Sequence[Row],
    duplicates: Sequence[Duplicate],
    training: dict[str, Any],
) -> Bundle:
    """Return the signed bundle at `path`."""
    golden = golden_images(data.part("val").images)
    answers = fitted.answer(golden)
    facts = facts_of(data, duplicates)
    return seal(
        path,
        name=name,
        task=TASK,
        onnx=fitted.onnx,
        inputs=[TensorSpec(name=INPUT, dtype="uint8", shape=("batch", *data.shape), low=0, high=255)],
        outputs=output_specs(answers),
        golden_inputs={INPUT: golden},
        golden_outputs=answers,
        golden_atol=_GOLDEN_ATOL,
        card=write_card(rows=rows, data=facts, decision=decision, training=training),
        metrics={row.split: row.metrics for row in rows},
        intervals={row.split: row.intervals for row in rows},
        training=training,
        data=facts,
        decision=decision.to_json()
        | {
            "note": NOT_FOR_DIAGNOSIS,
            "is_synthetic": data.is_synthetic,
            "slope": 1 / fitted.temperature,
            "offset": [0.0] * answers[LOGITS].shape[1],
            "checks": checks.to_json(),
            "reference": reference_of(fitted.answer(data.part("val").images), seed=0),
        },
        weights={key: tensor.numpy(force=True) for key, tensor in fitted.module.state_dict().items()},
    )


def output_specs(answers: dict[str, NDArray[np.float32]]) -> list[TensorSpec]:
    """Return the specs of the graph's outputs."""
    low, high = {PROBABILITY: 0.0, DISTANCE: 0.0}, {PROBABILITY: 1.0}
    return [
        TensorSpec(
            name=name,
            dtype="float32",
            shape=("batch", *answers[name].shape[1:]),
            low=low.get(name),
            high=high.get(name),
        )
        for name in OUTPUTS
    ]


def reference_of(answers: dict[str, NDArray[np.float32]], *, seed: int) -> dict[str, Any]:
    """Return what new sites are compared with: main directions of embeddings, distances, probabilities of some rows."""
    n = len(answers[DISTANCE])
    rows = np.sort(np.random.default_rng(seed).permutation(n)[:_N_REFERENCE])
    return {
        EMBEDDING: np.round(answers[EMBEDDING][rows, :_N_DIRECTIONS].astype(np.float64), _DIGITS).tolist(),
        DISTANCE: np.round(answers[DISTANCE][rows].astype(np.float64), _DIGITS).tolist(),
        PROBABILITY: np.round(answers[PROBABILITY][rows].astype(np.float64), _DIGITS + 2).tolist(),
    }


def golden_images(images: NDArray[np.uint8], *, seed: int = 0) -> NDArray[np.uint8]:
    """Return images that no patient is in: each the blend of six at random, with noise over it."""
    rng = np.random.default_rng(seed)
    rows = rng.integers(0, len(images), (_N_GOLDEN, _N_BLENDED))
    blends = images[rows].astype(np.float64).mean(1)
    blends = (blends - 127.5) * rng.uniform(0.8, 1.8, (_N_GOLDEN, *[1] * (blends.ndim - 1))) + 127.5
    noisy: NDArray[np.uint8] = np.clip(np.rint(blends + rng.normal(0, 12, blends.shape)), 0, 255).astype(np.uint8)
    return noisy


def facts_of(data: Labelled, duplicates: Sequence[Duplicate]) -> dict[str, Any]:
    """Return what the manifest says of the data."""
    crossing = [copy for copy in duplicates if copy.split != copy.other_split]
    return {
        "name": data.name,
        "kind": data.kind,
        "classes": list(data.classes),
        "sha256": data.sha256,
        "licence": data.licence,
        "is_synthetic": data.is_synthetic,
        "splits": {name: len(part) for name, part in data.parts.items()},
        "counts": {
            name: (
                np.bincount(part.labels, minlength=len(data.classes)) if part.labels.ndim == 1 else part.labels.sum(0)
            )
            for name, part in data.parts.items()
        },
        "copies_across_splits": len(crossing),
        "exact_copies_across_splits": sum(copy.is_exact for copy in crossing),
        "refused": len(data.refused),
    }


def model_name(config_name: str | None, data: Labelled) -> str:
    """Return the model's name in the store: healthcare/ and the data's, if none was given."""
    return config_name or "healthcare/" + (re.sub(r"[^a-z0-9]+", "-", data.name.lower()).strip("-")[:60] or "images")


def publish(bundle: Bundle, *, promote: Literal["auto", "yes", "no"]) -> Version:
    """Return the bundle's version in the store; "auto" promotes it to prod if prod means nothing yet."""
    store = Store()
    name = bundle.manifest.name
    has_prod = name in store.names() and "prod" in store.aliases(name)
    is_promoted = promote == "yes" or (promote == "auto" and not has_prod)
    version = store.publish(bundle, alias="prod" if is_promoted else None)
    _LOG.info("published %s%s", version.reference, ", which prod now means" if is_promoted else "")
    return version
