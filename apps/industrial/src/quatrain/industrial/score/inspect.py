"""One image through a sealed inspector: score, map and verdict."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quatrain.core.bundle.manifest import BundleError
from quatrain.core.images import ImageArray
from quatrain.core.inference import Model
from quatrain.industrial.decision import Rule, Verdict
from quatrain.industrial.features.pixels import PixelSpec, as_input


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """What an inspector says of one image."""

    score: float
    verdict: Verdict
    # Coarse, in the score's units; `enlarged` gives it at the image's size.
    map: NDArray[np.float32]
    shape_hw: tuple[int, int]

    def peak(self) -> tuple[int, int]:
        """Return row and column, in pixels of the image, of the place most unlike good parts."""
        place = np.unravel_index(int(self.map.argmax()), self.map.shape)
        scale = (self.shape_hw[0] / self.map.shape[0], self.shape_hw[1] / self.map.shape[1])
        return int((place[0] + 0.5) * scale[0]), int((place[1] + 0.5) * scale[1])


class Inspector:
    """A loaded model with its sealed rule and the images it takes."""

    def __init__(self, model: Model, *, rule: Rule | None = None) -> None:
        """Take a model; `rule` in place of the sealed one. Raises BundleError for a model of another kind."""
        pixels = model.manifest.decision.get("pixels")
        if pixels is None:
            raise BundleError(f"{model.reference} is no inspector; train one with `quatrain industrial train`")
        self.model = model
        self.rule = rule or Rule.of(model.manifest)
        self.spec = PixelSpec.model_validate(pixels)

    def inspect(self, image: ImageArray, *, name: str = "the image") -> Inspection:
        """Return what the model says; raises BadDataError for an image that it does not take."""
        pixels = as_input(image, self.spec, name=name)
        answer: Any = self.model.predict(pixels[None])
        score = float(answer["score"][0])
        return Inspection(
            score=score,
            verdict=self.rule.verdict(score),
            map=answer["map"][0],
            shape_hw=(image.shape[0], image.shape[1]),
        )


def enlarged(found: NDArray[np.float32], shape_hw: tuple[int, int]) -> NDArray[np.float32]:
    """Return the map at the image's size, (H, W), bilinearly."""
    from PIL import Image

    return np.asarray(Image.fromarray(found).resize(shape_hw[::-1], Image.Resampling.BILINEAR))
