"""An image classifier as a bundle holds it: pixels in, probabilities out; and the part of it that is trained."""

from __future__ import annotations

from collections.abc import Callable
from typing import Self, cast

import torch
from torch import Tensor, nn

from quatrain.core.calibration.temperature import Link
from quatrain.core.vision.augmentation import Augment, Augmentation
from quatrain.core.vision.backbone import Backbone
from quatrain.core.vision.preprocess import Preprocess


class ImageClassifier(nn.Module):
    """Preprocessing, backbone, one linear layer, temperature, and softmax or sigmoid."""

    temperature: Tensor

    def __init__(self, preprocess: Preprocess, backbone: Backbone, *, n_classes: int, link: Link) -> None:
        super().__init__()
        if n_classes < 2 or (link == "sigmoid" and n_classes > 2):  # noqa: PLR2004 - one class or the other
            raise ValueError(f"expected 2 classes or more, and 2 for sigmoid, got {n_classes}")
        self.preprocess = preprocess
        self.backbone = backbone
        self.head = nn.Linear(backbone.n_features, n_classes if link == "softmax" else 1)
        self.link = link
        self.register_buffer("temperature", torch.tensor(1.0))

    def forward(self, pixels: Tensor) -> Tensor:
        """Return probabilities of pixels (B, H, W) or (B, H, W, 3): (B, classes), with sigmoid (B,) of class 1."""
        logits = self.logits(pixels) / self.temperature
        return torch.softmax(logits, dim=1) if self.link == "softmax" else torch.sigmoid(logits)[:, 0]

    def logits(self, pixels: Tensor) -> Tensor:
        """Return logits before the temperature, (B, classes), with sigmoid (B, 1)."""
        logits: Tensor = self.head(self.embedding(pixels))
        return logits

    def embedding(self, pixels: Tensor) -> Tensor:
        """Return what the linear layer sees, (B, n_features)."""
        embedding: Tensor = self.backbone(self.preprocess(pixels))
        return embedding


class TrainedPart(nn.Module):
    """Pixels in, logits out; in training, images are augmented, and norms may keep their running values."""

    def __init__(self, model: nn.Module, *, augmentation: Augmentation | None, frozen_norms: bool) -> None:
        super().__init__()
        self.model = cast("ImageClassifier", model)
        self.augment = nn.Identity() if augmentation is None else Augment(augmentation)
        self.frozen_norms = frozen_norms

    def forward(self, pixels: Tensor) -> Tensor:
        """Return logits, (B, classes) or (B, 1)."""
        images = self.augment(self.model.preprocess(pixels))
        logits: Tensor = self.model.head(self.model.backbone(images))
        return logits

    def train(self, mode: bool = True) -> Self:
        """Set training or evaluation; frozen norms stay in evaluation."""
        super().train(mode)
        if self.frozen_norms:
            for layer in self.modules():
                if isinstance(layer, nn.modules.batchnorm._BatchNorm):
                    layer.eval()
        return self


class Embedding(nn.Module):
    """Pixels in, what the linear layer sees out."""

    def __init__(self, model: ImageClassifier) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the embedding, (B, n_features)."""
        return self.model.embedding(pixels)


def trained_part(augmentation: Augmentation | None, *, frozen_norms: bool) -> Callable[[nn.Module], nn.Module]:
    """Return what gives the trained part of an ImageClassifier, however narrow: `TrainingRows.logits`."""

    def part(model: nn.Module) -> nn.Module:
        return TrainedPart(model, augmentation=augmentation, frozen_norms=frozen_norms)

    return part
