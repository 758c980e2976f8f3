"""What every backbone gives: an embedding of an image, and feature maps by stage."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from torch import Tensor, nn

from quatrain.core.vision.preprocess import Normalisation, Preprocess


class Backbone(nn.Module, ABC):
    """Normalised images (B, 3, h, w) to an embedding (B, n_features), or to maps by stage.

    Stage i halves the image i + 1 times in all: `channels[i]` maps of 1 / `strides[i]` of its height and width.
    """

    def __init__(
        self,
        *,
        channels: tuple[int, ...],
        strides: tuple[int, ...],
        n_features: int,
        normalisation: Normalisation,
        size_hw: tuple[int, int],
    ) -> None:
        super().__init__()
        self.channels = channels
        self.strides = strides
        self.n_features = n_features
        self.normalisation = normalisation
        # What the published weights were evaluated at; other sizes work.
        self.size_hw = size_hw

    def features(self, images: Tensor, stages: Sequence[int] | None = None) -> list[Tensor]:
        """Return the last map of each stage, (B, channels[i], h / strides[i], w / strides[i]), all by default.

        What comes after the last stage that is asked for is not computed.
        """
        chosen = tuple(range(len(self.channels))) if stages is None else tuple(stages)
        if not chosen or list(chosen) != sorted(set(chosen)) or chosen[0] < 0 or chosen[-1] >= len(self.channels):
            raise ValueError(f"stages must rise from 0 to {len(self.channels) - 1}, got {chosen}")
        return self.maps(images, chosen)

    @abstractmethod
    def maps(self, images: Tensor, stages: tuple[int, ...]) -> list[Tensor]:
        """Return the maps of these stages, in their order."""

    def preprocess(self, size_hw: Sequence[int] | None = None) -> Preprocess:
        """Return what prepares pixels for this backbone, at its published size by default."""
        return Preprocess(self.size_hw if size_hw is None else size_hw, self.normalisation)
