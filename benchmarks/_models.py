"""The networks that benchmarks compress: ResNet-18 and EfficientNet-Lite0 on images, FT-Transformer on tables."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

# ImageNet's mean and standard deviation of each colour, of values in [0, 1].
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
# EfficientNet-Lite0: expansion, channels, repeats, stride and kernel of each stage (Tan and Le, 2019, table 1,
# without squeeze-and-excitation and with ReLU6, as Lite has it).
_LITE0 = (
    (1, 16, 1, 1, 3),
    (6, 24, 2, 2, 3),
    (6, 40, 2, 2, 5),
    (6, 80, 3, 2, 3),
    (6, 112, 3, 1, 5),
    (6, 192, 4, 2, 5),
    (6, 320, 1, 1, 3),
)


class FromPixels(nn.Module):
    """A classifier that takes pixels as they are and answers probabilities: what a bundle holds."""

    mean: Tensor
    std: Tensor

    def __init__(self, classifier: nn.Module) -> None:
        super().__init__()
        self.classifier = classifier
        self.register_buffer("mean", 255 * torch.tensor(MEAN).reshape(3, 1, 1))
        self.register_buffer("std", 255 * torch.tensor(STD).reshape(3, 1, 1))

    def forward(self, pixels: Tensor) -> Tensor:
        """Return probabilities (B, classes) of grey images, uint8 (B, H, W)."""
        return torch.softmax(self.classifier(self.normalised(pixels)), dim=1)

    def normalised(self, pixels: Tensor) -> Tensor:
        """Return what the classifier takes, float32 (B, 3, H, W)."""
        grey = pixels.float().unsqueeze(1).expand(-1, 3, -1, -1)
        return (grey - self.mean) / self.std


class PixelLogits(nn.Module):
    """What is trained of a FromPixels: pixels in, logits out, its parameters the model's own."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: Tensor) -> Tensor:
        """Return logits (B, classes) of grey images, uint8 (B, H, W)."""
        return self.model.classifier(self.model.normalised(pixels))


class ResNet18(nn.Module):
    """ResNet of 18 layers (He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, table 1)."""

    def __init__(self, *, n_classes: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False),
            nn.BatchNorm2d(64),
            nn.ReLU(),
            nn.MaxPool2d(3, stride=2, padding=1),
        )
        widths = (64, 64, 128, 256, 512)
        blocks: list[nn.Module] = []
        for stage in range(1, 5):
            stride = 1 if stage == 1 else 2
            blocks += [
                _Residual(widths[stage - 1], widths[stage], stride=stride),
                _Residual(widths[stage], widths[stage], stride=1),
            ]
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(512, n_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (B, classes) of normalised images (B, 3, H, W)."""
        return self.head(self.blocks(self.stem(images)).mean((2, 3)))


class _Residual(nn.Module):
    def __init__(self, n_in: int, n_out: int, *, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(n_in, n_out, 3, stride=stride, padding=1, bias=False)
        self.first_norm = nn.BatchNorm2d(n_out)
        self.second = nn.Conv2d(n_out, n_out, 3, padding=1, bias=False)
        self.second_norm = nn.BatchNorm2d(n_out)
        is_same = stride == 1 and n_in == n_out
        projection = (nn.Conv2d(n_in, n_out, 1, stride=stride, bias=False), nn.BatchNorm2d(n_out))
        self.shortcut = nn.Identity() if is_same else nn.Sequential(*projection)

    def forward(self, x: Tensor) -> Tensor:
        hidden = functional.relu(self.first_norm(self.first(x)))
        return functional.relu(self.second_norm(self.second(hidden)) + self.shortcut(x))


class Lite0(nn.Module):
    """EfficientNet-Lite0; its layers come in the order of the published weights."""

    def __init__(self, *, n_classes: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 32, 3, stride=2, padding=1, bias=False), _norm(32), nn.ReLU6())
        blocks: list[nn.Module] = []
        n_in = 32
        for expansion, n_out, repeats, stride, kernel in _LITE0:
            for repeat in range(repeats):
                blocks.append(_Inverted(n_in, n_out, expansion, stride=stride if repeat == 0 else 1, kernel=kernel))
                n_in = n_out
        self.blocks = nn.Sequential(*blocks)
        self.top = nn.Sequential(nn.Conv2d(n_in, 1280, 1, bias=False), _norm(1280), nn.ReLU6())
        self.head = nn.Linear(1280, n_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (B, classes) of normalised images (B, 3, H, W)."""
        return self.head(self.top(self.blocks(self.stem(images))).mean((2, 3)))


def _norm(n_channels: int) -> nn.BatchNorm2d:
    # The published weights were trained with this constant.
    return nn.BatchNorm2d(n_channels, eps=1e-3)


def load_published(model: Lite0, weights: Mapping[str, Tensor]) -> None:
    """Give the model the ImageNet weights, whatever their names: all but the head, in their order."""
    own = {name: tensor for name, tensor in model.state_dict().items() if not name.startswith("head.")}
    published = [tensor for name, tensor in weights.items() if not name.startswith("_fc.")]
    shapes = [tuple(tensor.shape) for tensor in own.values()]
    if shapes != [tuple(tensor.shape) for tensor in published]:
        raise ValueError(f"expected {len(shapes)} tensors of EfficientNet-Lite0 in order, got {len(published)} others")
    model.load_state_dict(dict(zip(own, published, strict=True)), strict=False)


class _Inverted(nn.Module):
    def __init__(self, n_in: int, n_out: int, expansion: int, *, stride: int, kernel: int) -> None:
        super().__init__()
        wide = n_in * expansion
        layers: list[nn.Module] = []
        if expansion > 1:
            layers += [nn.Conv2d(n_in, wide, 1, bias=False), _norm(wide), nn.ReLU6()]
        layers += [
            nn.Conv2d(wide, wide, kernel, stride=stride, padding=kernel // 2, groups=wide, bias=False),
            _norm(wide),
            nn.ReLU6(),
            nn.Conv2d(wide, n_out, 1, bias=False),
            _norm(n_out),
        ]
        self.layers = nn.Sequential(*layers)
        self.is_residual = stride == 1 and n_in == n_out

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x) if self.is_residual else self.layers(x)


class TableLogits(nn.Module):
    """What is trained of an FTTransformer: columns in, log odds out, its parameters the model's own."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, columns: Tensor) -> Tensor:
        """Return log odds (B,) of rows (B, columns)."""
        return self.model.logits(columns)
