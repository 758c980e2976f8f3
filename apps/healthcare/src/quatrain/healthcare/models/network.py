"""A small residual network for images of 28 to 224 pixels, and several of them as one."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, log2

import torch
from torch import Tensor, nn
from torch.nn import functional

from quatrain.healthcare.models.augment import RadiographAugment
from quatrain.healthcare.models.settings import ModelSettings

# Larger images are halved until they are at most this wide: beyond it the network only becomes slower.
_FULL_SIDE = 32
# Added to an image's own standard deviation, so that an empty one stays finite.
_LEAST_STD = 0.02
# Of 8-bit radiographs, for images that keep their own brightness.
_MEAN, _STD = 0.5, 0.2
_STAGES = (1, 2, 4, 8)


class SmallResNet(nn.Module):
    """Pixels uint8 (B, H, W) or (B, H, W, 3) to logits (B, n_outputs) and an embedding (B, 8 width)."""

    def __init__(self, *, side: int, n_channels: int, n_outputs: int, settings: ModelSettings) -> None:
        super().__init__()
        width = settings.width
        self.standardised = settings.standardised
        self.augment = RadiographAugment(settings.moved, settings.shown)
        layers: list[nn.Module] = [_conv(n_channels, width, 3), nn.BatchNorm2d(width), nn.ReLU()]
        for _ in range(max(0, ceil(log2(side / _FULL_SIDE)))):
            layers += [_conv(width, width, 3, stride=2), nn.BatchNorm2d(width), nn.ReLU()]
        n_in = width
        for place, times in enumerate(_STAGES):
            n_out = times * width
            layers += [_Block(n_in, n_out, stride=2 if place else 1), _Block(n_out, n_out, stride=1)]
            n_in = n_out
        self.features = nn.Sequential(*layers)
        self.dropout = nn.Dropout(settings.dropout)
        self.head = nn.Linear(n_in, n_outputs)
        self.n_features = n_in

    def forward(self, pixels: Tensor) -> Tensor:
        """Return logits; in training of images moved and shown at random."""
        logits: Tensor = self.head(self.dropout(self.embedding(self.augment(scaled(pixels)))))
        return logits

    def maps(self, images: Tensor) -> Tensor:
        """Return the last feature maps (B, 8 width, h, w) of images (B, C, H, W) on a scale of 0 to 1."""
        if not self.standardised:
            return self._maps((images - _MEAN) / _STD)
        mean = images.mean((1, 2, 3), keepdim=True)
        # Each by its own brightness and contrast: what a machine's settings change says nothing of the patient.
        deviation = ((images - mean) ** 2).mean((1, 2, 3), keepdim=True).sqrt()
        return self._maps((images - mean) / (deviation + _LEAST_STD))

    def _maps(self, normalised: Tensor) -> Tensor:
        maps: Tensor = self.features(normalised)
        return maps

    def embedding(self, images: Tensor) -> Tensor:
        """Return what the last layer sees, (B, 8 width)."""
        return self.maps(images).mean((2, 3))


class Ensemble(nn.Module):
    """Several networks as one: mean logits, and their embeddings side by side."""

    def __init__(self, members: Sequence[SmallResNet]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits (B, n_outputs) and the embedding (B, members x 8 width)."""
        images = scaled(pixels)
        embeddings = [member.embedding(images) for member in self.members]  # type: ignore[operator]
        logits = [member.head(embedding) for member, embedding in zip(self.members, embeddings, strict=True)]  # type: ignore[operator]
        return torch.stack(logits).mean(0), torch.cat(embeddings, dim=1)


def scaled(pixels: Tensor) -> Tensor:
    """Return images (B, C, H, W) on a scale of 0 to 1 of 8-bit pixels (B, H, W) or (B, H, W, 3)."""
    images = pixels.unsqueeze(1) if pixels.ndim == 3 else pixels.permute(0, 3, 1, 2)  # noqa: PLR2004 - (B, H, W)
    return images.float() / 255


class _Block(nn.Module):
    """Two convolutions beside a shortcut that averages where it halves, so that nothing aliases."""

    def __init__(self, n_in: int, n_out: int, *, stride: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            _conv(n_in, n_out, 3, stride=stride),
            nn.BatchNorm2d(n_out),
            nn.ReLU(),
            _conv(n_out, n_out, 3),
            nn.BatchNorm2d(n_out),
        )
        halve = nn.AvgPool2d(stride, ceil_mode=True) if stride > 1 else nn.Identity()
        is_same = stride == 1 and n_in == n_out
        self.shortcut = nn.Identity() if is_same else nn.Sequential(halve, _conv(n_in, n_out, 1), nn.BatchNorm2d(n_out))

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.layers(x) + self.shortcut(x))


def _conv(n_in: int, n_out: int, kernel: int, *, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(n_in, n_out, kernel, stride=stride, padding=kernel // 2, bias=False)
