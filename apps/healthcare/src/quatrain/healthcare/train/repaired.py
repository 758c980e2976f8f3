"""A bundle as it was, but for the site's own probabilities, threshold and sets of answers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from quatrain.core.bundle.seal import seal
from quatrain.core.inference import Model, find_bundle, open_session
from quatrain.healthcare.models.outputs import INPUT, OUTPUTS
from quatrain.healthcare.models.tail import recalibrated

if TYPE_CHECKING:
    from quatrain.core.bundle.open import Bundle
    from quatrain.healthcare.evaluate.adapt import Repair


def seal_repaired(path: Path, reference: str, *, model: Model, repair: Repair, n_labels: int, data: str) -> Bundle:
    """Return the repaired bundle at `path`; its parent is the one that was repaired, and the network is the same."""
    parent, _ = find_bundle(reference)
    manifest = model.manifest
    onnx = recalibrated(parent.onnx, slope=repair.slope, offset=repair.offset)
    golden = {INPUT: parent.golden()[0][INPUT]}
    outputs = open_session(onnx).run(list(OUTPUTS), golden)
    note = f"\n## Adapted\n\n{n_labels} labels of {data} repaired probabilities, threshold and sets of answers.\n"
    decision = dict(manifest.decision) | repair.decision.to_json()
    decision |= {"slope": repair.slope, "offset": [float(value) for value in np.atleast_1d(repair.offset)]}
    return seal(
        path,
        name=manifest.name,
        task=manifest.task,
        onnx=onnx,
        inputs=manifest.inputs,
        outputs=manifest.outputs,
        golden_inputs=golden,
        golden_outputs=dict(zip(OUTPUTS, outputs, strict=True)),
        golden_atol=manifest.golden_atol,
        card=parent.card + note,
        training=dict(manifest.training) | {"adapted_with": n_labels},
        data=manifest.data,
        decision=decision,
        parent=parent.digest,
        weights=parent.weights() if "weights.safetensors" in manifest.files else None,
    )
