"""Light augmentation as torch operations: other views of an image in which nothing changed that matters."""

from __future__ import annotations

import math

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from quatrain.core.config import Config


class Augmentation(Config):
    """How far an image may be moved in training; each amount is drawn anew for every image, evenly up to this."""

    # Chance of a mirror image, left to right and top to bottom. A chest X-ray has neither.
    flip: float = Field(default=0.5, ge=0, le=1)
    upend: float = Field(default=0.0, ge=0, le=1)
    # Share of width and height.
    shift: float = Field(default=0.05, ge=0, le=0.5)
    rotation_degrees: float = Field(default=8.0, ge=0, le=180)
    # Share of the size, in and out.
    zoom: float = Field(default=0.05, ge=0, lt=1)
    # Of normalised images: added, and share of the contrast.
    brightness: float = Field(default=0.2, ge=0)
    contrast: float = Field(default=0.1, ge=0, lt=1)


class Augment(nn.Module):
    """Images (B, C, H, W) moved at random in training, and as they are otherwise; borders repeat the edge."""

    def __init__(self, settings: Augmentation) -> None:
        super().__init__()
        self.settings = settings

    def forward(self, images: Tensor) -> Tensor:
        """Return images of the same shape; draws come from torch's global generator."""
        if not self.training:
            return images
        grid = functional.affine_grid(self._movements(images), list(images.shape), align_corners=False)
        moved = functional.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)
        brightness = self._even(images, self.settings.brightness)[:, None, None, None]
        contrast = 1 + self._even(images, self.settings.contrast)[:, None, None, None]
        return moved * contrast + brightness

    def _movements(self, images: Tensor) -> Tensor:
        """Return a matrix for each image, (B, 2, 3): where in the old image a place of the new one lies."""
        s = self.settings
        height, width = images.shape[2:]
        angle = self._even(images, math.radians(s.rotation_degrees))
        scale = 1 + self._even(images, s.zoom)
        mirror, upend = self._sign(images, s.flip), self._sign(images, s.upend)
        cos, sin = torch.cos(angle) * scale, torch.sin(angle) * scale
        # Coordinates run from -1 to 1 along either side, so that a turn of an oblong image needs its proportions.
        rows = [
            torch.stack([cos * mirror, -sin * upend * (height / width), 2 * self._even(images, s.shift)], dim=1),
            torch.stack([sin * mirror * (width / height), cos * upend, 2 * self._even(images, s.shift)], dim=1),
        ]
        return torch.stack(rows, dim=1)

    @staticmethod
    def _even(images: Tensor, most: float) -> Tensor:
        return (2 * torch.rand(len(images), device=images.device, dtype=images.dtype) - 1) * most

    @staticmethod
    def _sign(images: Tensor, chance: float) -> Tensor:
        return 1 - 2 * (torch.rand(len(images), device=images.device) < chance).to(images.dtype)
