"""The inspector as a signed bundle, and its place in the store."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from quatrain.core.bundle.manifest import TensorSpec
from quatrain.core.bundle.seal import seal
from quatrain.core.data.digest import digest_of
from quatrain.core.export import check_parity
from quatrain.core.store import Store
from quatrain.industrial.data.layouts import Folder
from quatrain.industrial.decision import Rule
from quatrain.industrial.features.pixels import PixelSpec
from quatrain.industrial.models.extractor import Extractor
from quatrain.industrial.models.inspector import MAP_ZOOM, Head, Inspector
from quatrain.industrial.simulation.parts import TRUTH
from quatrain.industrial.train.card import write_card
from quatrain.industrial.train.choice import Choice
from quatrain.industrial.train.config import MODEL_NAME, TASK, TrainConfig
from quatrain.industrial.train.graph import joined
from quatrain.industrial.train.material import Material

if TYPE_CHECKING:
    from quatrain.core.bundle.open import Bundle
    from quatrain.core.store import Version

_LOG = logging.getLogger(__name__)
# Batches that the graph must answer as torch does, and how closely, in deviations of good parts.
_BATCHES = (1, 2, 8)
_ATOL = 1e-3
# Other machines add in another order.
_GOLDEN_ATOL = 5e-3


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """Everything that training found."""

    extractor: Extractor
    extractor_onnx: bytes
    head: Head
    spec: PixelSpec
    choice: Choice
    rule: Rule
    # Of the good parts, by heads that had not seen them.
    scores: NDArray[np.float64]
    suspects: Sequence[dict[str, Any]]


def seal_inspector(
    path: Path,
    *,
    fitted: Fitted,
    material: Material,
    folder: Folder,
    row: dict[str, Any],
    config: TrainConfig,
    run_id: str,
) -> Bundle:
    """Return the signed bundle at `path`; raises ParityError where the graph does not give torch's numbers."""
    geometry = fitted.extractor.geometry
    inspector = Inspector(fitted.extractor, fitted.head).eval()
    onnx = joined(
        fitted.extractor_onnx,
        fitted.head.eval(),
        n_features=fitted.extractor.n_features,
        grid_hw=geometry.grid_hw,
    )
    golden = {"image": material.golden}
    score, found = inspector(torch.from_numpy(material.golden))
    answers = {"score": score.numpy(), "map": found.numpy()}
    parity = check_parity(onnx, golden, answers, atol=_ATOL, batches=_BATCHES)
    decision = {
        "rule": fitted.rule.model_dump(mode="json"),
        "pixels": fitted.spec.model_dump(mode="json"),
        "good_scores": [round(float(score), 6) for score in np.sort(fitted.scores)],
        "suspects": list(fitted.suspects),
        "is_synthetic": (folder.path / TRUTH).is_file(),
    }
    training = {
        "run": run_id,
        "seed": config.seed,
        "backbone": config.backbone,
        "size_hw": list(geometry.size_hw),
        "choice": fitted.choice.to_dict(),
        "parity": parity,
    }
    data = {
        "name": folder.path.name,
        "layout": folder.layout,
        "n_good": len(material.paths),
        "sha256": _digest(material.paths),
        "unread": len(material.unread),
        "is_synthetic": decision["is_synthetic"],
    }
    map_hw = tuple(side * MAP_ZOOM for side in geometry.grid_hw)
    return seal(
        path,
        name=MODEL_NAME,
        task=TASK,
        onnx=onnx,
        inputs=[
            TensorSpec(
                name="image",
                dtype=fitted.spec.dtype,
                shape=("batch", "height", "width", fitted.spec.channels),
                low=0,
                high=fitted.spec.full_scale,
                units="pixel value",
            )
        ],
        outputs=[
            TensorSpec(name="score", dtype="float32", shape=("batch",), units="deviations of good parts"),
            TensorSpec(name="map", dtype="float32", shape=("batch", *map_hw), units="deviations of good parts"),
        ],
        golden_inputs=golden,
        golden_outputs=answers,
        golden_atol=_GOLDEN_ATOL,
        card=write_card(row=row, rule=fitted.rule, training=training, data=data, suspects=fitted.suspects),
        metrics={"valid": row["metrics"]},
        intervals={"valid": row["intervals"]},
        training=training,
        data=data,
        decision=decision,
    )


def publish(bundle: Bundle, *, promote: Literal["auto", "yes", "no"]) -> Version:
    """Return the bundle's version in the store; "auto" promotes it to prod if prod means nothing yet."""
    store = Store()
    has_prod = MODEL_NAME in store.names() and "prod" in store.aliases(MODEL_NAME)
    is_promoted = promote == "yes" or (promote == "auto" and not has_prod)
    version = store.publish(bundle, alias="prod" if is_promoted else None)
    _LOG.info("published %s%s", version.reference, ", which prod now means" if is_promoted else "")
    return version


def _digest(paths: Sequence[Path]) -> str:
    """Return the digest of the parts' own digests, in their order."""
    import hashlib

    return hashlib.sha256("".join(digest_of(path)[0] for path in paths).encode()).hexdigest()
