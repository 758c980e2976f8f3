"""Pixels as a file gives them to what a backbone takes, inside the graph, so that nobody can prepare them otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class Normalisation:
    """Mean and standard deviation of red, green and blue, in units of the pixels."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def of_16_bits(self) -> Normalisation:
        """Return the same of pixels whose white is 65535 instead of 255."""
        red, green, blue = ((257 * mean, 257 * std) for mean, std in zip(self.mean, self.std, strict=True))
        return Normalisation((red[0], green[0], blue[0]), (red[1], green[1], blue[1]))


# What EfficientNet-Lite's published weights were trained with (TensorFlow TPU, efficientnet/lite, MEAN_RGB).
LITE = Normalisation((127.0, 127.0, 127.0), (128.0, 128.0, 128.0))
# ImageNet's own, of 8-bit pixels: what ResNets are usually trained with.
IMAGENET = Normalisation((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))


class Preprocess(nn.Module):
    """Antialiased resize and normalisation: pixels (B, H, W) or (B, H, W, C) of any size to float32 (B, 3, h, w).

    C is 1 or 3, and grey becomes three equal channels. The resize is Pillow's bilinear one (a triangle as wide
    as the reduction) computed in float32, so it is within one level of Pillow's, which rounds after either axis.
    Without `size_hw` images stay as large as they are. The scale in `normalisation` is that of 8 bits; 16-bit
    pixels take `of_16_bits`.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, size_hw: Sequence[int] | None, normalisation: Normalisation = IMAGENET) -> None:
        super().__init__()
        if size_hw is not None and (len(size_hw) != 2 or min(size_hw) < 1):  # noqa: PLR2004 - height and width
            raise ValueError(f"size_hw must be a height and a width of at least 1, got {size_hw}")
        self.size_hw = None if size_hw is None else (int(size_hw[0]), int(size_hw[1]))
        # Part of the graph, not of the weights.
        self.register_buffer("mean", torch.tensor(normalisation.mean).reshape(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(normalisation.std).reshape(3, 1, 1), persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return normalised images, float32 (B, 3, h, w)."""
        if pixels.ndim == 3:  # noqa: PLR2004 - (B, H, W)
            images = pixels.unsqueeze(1)  # (B, 1, H, W)
        elif pixels.ndim == 4 and pixels.shape[3] in {1, 3}:  # noqa: PLR2004 - (B, H, W, C)
            images = pixels.permute(0, 3, 1, 2)  # (B, C, H, W)
        else:
            raise ValueError(f"pixels must be (B, H, W), (B, H, W, 1) or (B, H, W, 3), got {tuple(pixels.shape)}")
        # Resized before they are normalised: one channel of grey instead of three.
        images = images.float()
        if self.size_hw is not None:
            images = functional.interpolate(images, size=self.size_hw, mode="bilinear", antialias=True)
        return (images - self.mean) / self.std
