"""Pixels to features on a coarse grid of the part: several layers of a backbone and the part's own colours."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from quatrain.core.vision.backbone import Backbone

# Strides of the layers that are read: texture, and what it belongs to. The grid has the coarser one's.
STRIDES = (8, 16)
# The image's sides are multiples of this, so that every block of 4 x 4 cells is whole.
SIDE_STEP = 4 * STRIDES[-1]
# A part's longer side is at most so many times the shorter one before it is squeezed.
_LARGEST_ASPECT = 4.0
# Of full scale: what an image without contrast is divided by, so that sensor noise does not become structure.
_FLAT = 0.02
# Mean 0 and this deviation is what photographs have after a backbone's own normalisation.
_USUAL_STD = 0.5


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """The size that every part is resized to, and the grid that its features lie on."""

    size_hw: tuple[int, int]

    @property
    def grid_hw(self) -> tuple[int, int]:
        """Cells of the grid, rows and columns."""
        return self.size_hw[0] // STRIDES[-1], self.size_hw[1] // STRIDES[-1]


def geometry_for(height_px: float, width_px: float, *, side_px: int) -> Geometry:
    """Return the size whose area is about `side_px` squared and whose shape is that of the parts' median image."""
    aspect = min(max(width_px / height_px, 1 / _LARGEST_ASPECT), _LARGEST_ASPECT)
    sides = (side_px / math.sqrt(aspect), side_px * math.sqrt(aspect))
    height, width = (max(1, round(side / SIDE_STEP)) * SIDE_STEP for side in sides)
    return Geometry(size_hw=(height, width))


class Extractor(nn.Module):
    """Pixels (B, H, W, C) of any size to features (B, n_features, grid height, grid width).

    Each image is brought to one mean and contrast before the backbone sees it, so that exposure and
    lamps matter little; the last channels are the mean colours as they came, in [0, 1].
    """

    def __init__(self, backbone: Backbone, geometry: Geometry, *, n_channels: int, full_scale: float) -> None:
        super().__init__()
        self.backbone = backbone
        self.geometry = geometry
        self.n_channels = n_channels
        # The largest value that a pixel can have: 255, or of deeper images the sensor's.
        self.full_scale = full_scale
        self.preprocess = backbone.preprocess(geometry.size_hw)
        self.stages = tuple(backbone.strides.index(stride) for stride in STRIDES)
        self.n_features = sum(backbone.channels[stage] for stage in self.stages) + n_channels

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the features, float32."""
        scaled = pixels.float() * (255.0 / self.full_scale)
        images = self.preprocess(scaled)  # (B, 3, h, w)
        colours = functional.avg_pool2d(self._raw(images), STRIDES[-1])  # (B, C, gh, gw)
        fine, coarse = self.backbone.features(self._evened(images), self.stages)
        pooled = functional.avg_pool2d(fine, STRIDES[-1] // STRIDES[0])
        return torch.cat([pooled, coarse, colours], dim=1)

    def _raw(self, images: Tensor) -> Tensor:
        """Undo the backbone's normalisation; of a grey image one channel says it all."""
        raw = (images * self.preprocess.std + self.preprocess.mean) / 255.0
        return raw if self.n_channels > 1 else raw[:, :1]

    def _evened(self, images: Tensor) -> Tensor:
        mean = images.mean((1, 2, 3), keepdim=True)
        centred = images - mean
        std = centred.square().mean((1, 2, 3), keepdim=True).sqrt()
        return centred * (_USUAL_STD / (std + _FLAT))
