"""A sealed model's answers on a set, and the checks that both fit together."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from quatrain.core.errors import UsageError
from quatrain.core.inference import Model
from quatrain.healthcare.data.labelled import Labelled, Part
from quatrain.healthcare.data.named import find_data
from quatrain.healthcare.decision import Decision
from quatrain.healthcare.features import fit_square, with_channels
from quatrain.healthcare.models.outputs import OUTPUTS

_BATCH = 256
_GREY_AXES = 2


def set_for(model: Model, data: str, *, seed: int = 0) -> Labelled:
    """Return the set, read as the model's kind of labels; UsageError where it has other classes."""
    decision = Decision.from_json(model.manifest.decision)
    shape = model.manifest.inputs[0].shape[1:]
    found = find_data(data, kind=decision.kind, side=int(shape[0]), seed=seed)
    if len(found.classes) > len(decision.classes) or (
        decision.kind == "multilabel" and len(found.classes) != len(decision.classes)
    ):
        raise UsageError(
            f"{found.name} has {len(found.classes)} classes, the model {len(decision.classes)}: "
            f"{', '.join(decision.classes)}; evaluate on a set with the same"
        )
    return found


def pixels_for(model: Model, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return images in the model's size and colours; what already is so is not touched."""
    shape = tuple(int(size) for size in model.manifest.inputs[0].shape[1:])
    fitted = with_channels(images, 1 if len(shape) == _GREY_AXES else shape[2])
    if fitted.shape[1:3] == shape[:2]:
        return fitted
    return np.stack([fit_square(image, shape[0]) for image in fitted])


def answer(model: Model, part: Part) -> dict[str, NDArray[Any]]:
    """Return the model's outputs for every image of a split."""
    pixels = pixels_for(model, part.images)
    name = model.manifest.inputs[0].name
    batches = [
        model.predict({name: np.ascontiguousarray(pixels[i : i + _BATCH])}).outputs
        for i in range(0, len(pixels), _BATCH)
    ]
    return {output: np.concatenate([batch[output] for batch in batches]) for output in OUTPUTS}
