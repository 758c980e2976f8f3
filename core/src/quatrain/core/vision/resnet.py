"""ResNet of 18 and 50 layers (He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, table 1)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from quatrain.core.vision.backbone import Backbone
from quatrain.core.vision.preprocess import IMAGENET

_WIDTHS = (64, 128, 256, 512)
_DEPTHS = {"resnet18": (2, 2, 2, 2), "resnet50": (3, 4, 6, 3)}
# A bottleneck's last convolution is this many times as wide as the others.
_EXPANSION = 4


class ResNet(Backbone):
    """A ResNet without its last layer; of 50 layers, the second convolution of a block carries the stride."""

    def __init__(self, name: str) -> None:
        is_deep = name == "resnet50"
        widths = [width * (_EXPANSION if is_deep else 1) for width in _WIDTHS]
        super().__init__(
            channels=(64, *widths),
            strides=(2, 4, 8, 16, 32),
            n_features=widths[-1],
            normalisation=IMAGENET,
            size_hw=(224, 224),
        )
        self.stem = nn.Sequential(_conv(3, 64, 7, stride=2), nn.BatchNorm2d(64), nn.ReLU())
        self.pool = nn.MaxPool2d(3, stride=2, padding=1)
        self.stages = nn.ModuleList()
        n_in = 64
        for i, depth in enumerate(_DEPTHS[name]):
            blocks: list[nn.Module] = []
            for repeat in range(depth):
                stride = 2 if i and not repeat else 1
                block = _Bottleneck if is_deep else _Basic
                blocks.append(block(n_in, _WIDTHS[i], stride=stride))
                n_in = widths[i]
            self.stages.append(nn.Sequential(*blocks))

    def maps(self, images: Tensor, stages: tuple[int, ...]) -> list[Tensor]:
        """Return the last map of these stages; stage 0 is the stem."""
        x = self.stem(images)
        found = [x] if 0 in stages else []
        if stages[-1] > 0:
            x = self.pool(x)
        for i, stage in enumerate(self.stages[: stages[-1]], start=1):
            x = stage(x)
            if i in stages:
                found.append(x)
        return found

    def forward(self, images: Tensor) -> Tensor:
        """Return the embedding, (B, 512), of 50 layers (B, 2048)."""
        x = self.pool(self.stem(images))
        for stage in self.stages:
            x = stage(x)
        pooled: Tensor = x.mean((2, 3))
        return pooled


class _Basic(nn.Module):
    def __init__(self, n_in: int, width: int, *, stride: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            _conv(n_in, width, 3, stride=stride),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            _conv(width, width, 3),
            nn.BatchNorm2d(width),
        )
        self.shortcut = _shortcut(n_in, width, stride=stride)

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.layers(x) + self.shortcut(x))


class _Bottleneck(nn.Module):
    def __init__(self, n_in: int, width: int, *, stride: int) -> None:
        super().__init__()
        n_out = width * _EXPANSION
        self.layers = nn.Sequential(
            _conv(n_in, width, 1),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            _conv(width, width, 3, stride=stride),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            _conv(width, n_out, 1),
            nn.BatchNorm2d(n_out),
        )
        self.shortcut = _shortcut(n_in, n_out, stride=stride)

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.layers(x) + self.shortcut(x))


def _conv(n_in: int, n_out: int, kernel: int, *, stride: int = 1) -> nn.Conv2d:
    conv = nn.Conv2d(n_in, n_out, kernel, stride=stride, padding=kernel // 2, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return conv


def _shortcut(n_in: int, n_out: int, *, stride: int) -> nn.Module:
    if stride == 1 and n_in == n_out:
        return nn.Identity()
    return nn.Sequential(_conv(n_in, n_out, 1, stride=stride), nn.BatchNorm2d(n_out))
