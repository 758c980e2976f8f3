"""EfficientNet-Lite 0 to 2, padded as TensorFlow pads, so that the published weights give the published features."""

from __future__ import annotations

import math

from torch import Tensor, nn
from torch.nn import functional

from quatrain.core.vision.backbone import Backbone
from quatrain.core.vision.preprocess import LITE

# Expansion, channels, repeats, stride and kernel of each block (Tan and Le, "EfficientNet", ICML 2019, table 1);
# Lite leaves squeeze-and-excitation out, has ReLU6, and never scales the first and last block, stem and top.
_BLOCKS = (
    (1, 16, 1, 1, 3),
    (6, 24, 2, 2, 3),
    (6, 40, 2, 2, 5),
    (6, 80, 3, 2, 3),
    (6, 112, 3, 1, 5),
    (6, 192, 4, 2, 5),
    (6, 320, 1, 1, 3),
)
# The last block before each halving: what timm calls the features of strides 2, 4, 8, 16 and 32.
_STAGE_ENDS = (0, 1, 2, 4, 6)
# Width, depth and size of the images.
_VARIANTS = {
    "efficientnet_lite0": (1.0, 1.0, 224),
    "efficientnet_lite1": (1.0, 1.1, 240),
    "efficientnet_lite2": (1.1, 1.2, 260),
}
_STEM, _TOP = 32, 1280
# Channels come in multiples of this.
_DIVISOR = 8


class EfficientNetLite(Backbone):
    """EfficientNet-Lite (TensorFlow TPU, efficientnet/lite, 2020); its layers come in the order of the weights."""

    def __init__(self, name: str) -> None:
        width, depth, side = _VARIANTS[name]
        widths = [_scaled(block[1], width) for block in _BLOCKS]
        super().__init__(
            channels=tuple(widths[i] for i in _STAGE_ENDS),
            strides=(2, 4, 8, 16, 32),
            n_features=_TOP,
            normalisation=LITE,
            size_hw=(side, side),
        )
        self.stem = nn.Sequential(_SameConv(3, _STEM, 3, stride=2), _norm(_STEM), nn.ReLU6())
        self.blocks = nn.ModuleList()
        n_in = _STEM
        for i, (expansion, _, repeats, stride, kernel) in enumerate(_BLOCKS):
            n_repeats = repeats if i in {0, len(_BLOCKS) - 1} else math.ceil(repeats * depth)
            layers: list[nn.Module] = []
            for repeat in range(n_repeats):
                layers.append(_Inverted(n_in, widths[i], expansion, stride=1 if repeat else stride, kernel=kernel))
                n_in = widths[i]
            self.blocks.append(nn.Sequential(*layers))
        self.top = nn.Sequential(nn.Conv2d(n_in, _TOP, 1, bias=False), _norm(_TOP), nn.ReLU6())

    def maps(self, images: Tensor, stages: tuple[int, ...]) -> list[Tensor]:
        """Return the last map of these stages."""
        wanted = {_STAGE_ENDS[stage] for stage in stages}
        found = []
        x = self.stem(images)
        for i, block in enumerate(self.blocks[: max(wanted) + 1]):
            x = block(x)
            if i in wanted:
                found.append(x)
        return found

    def forward(self, images: Tensor) -> Tensor:
        """Return the embedding, (B, 1280)."""
        x = self.stem(images)
        for block in self.blocks:
            x = block(x)
        pooled: Tensor = self.top(x).mean((2, 3))
        return pooled


class _SameConv(nn.Conv2d):
    """A convolution padded as TensorFlow's SAME: where stride leaves an odd rest, one more at the far side."""

    def __init__(self, n_in: int, n_out: int, kernel: int, *, stride: int, groups: int = 1) -> None:
        # At stride 1 both sides get alike, which torch pads itself.
        padding = kernel // 2 if stride == 1 else 0
        super().__init__(n_in, n_out, kernel, stride=stride, padding=padding, groups=groups, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        if self.stride[0] == 1:
            return super().forward(x)
        height, width = (
            _rest(size, kernel, stride)
            for size, kernel, stride in zip(x.shape[2:], self.kernel_size, self.stride, strict=True)
        )
        sides = (width // 2, width - width // 2, height // 2, height - height // 2)
        return super().forward(functional.pad(x, sides))


class _Inverted(nn.Module):
    def __init__(self, n_in: int, n_out: int, expansion: int, *, stride: int, kernel: int) -> None:
        super().__init__()
        wide = n_in * expansion
        layers: list[nn.Module] = []
        if expansion > 1:
            layers += [nn.Conv2d(n_in, wide, 1, bias=False), _norm(wide), nn.ReLU6()]
        layers += [_SameConv(wide, wide, kernel, stride=stride, groups=wide), _norm(wide), nn.ReLU6()]
        layers += [nn.Conv2d(wide, n_out, 1, bias=False), _norm(n_out)]
        self.layers = nn.Sequential(*layers)
        self.is_residual = stride == 1 and n_in == n_out

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x)
        return x + y if self.is_residual else y


def _norm(n_channels: int) -> nn.BatchNorm2d:
    # TensorFlow's constants: an epsilon of 1e-3, and .99 of the running values kept.
    return nn.BatchNorm2d(n_channels, eps=1e-3, momentum=0.01)


def _scaled(n_channels: int, width: float) -> int:
    """Return the nearest multiple of 8, never 10% less than what was asked."""
    scaled = n_channels * width
    rounded = max(_DIVISOR, int(scaled + _DIVISOR / 2) // _DIVISOR * _DIVISOR)
    return rounded + _DIVISOR if rounded < 0.9 * scaled else rounded


def _rest(size: int, kernel: int, stride: int) -> int:
    """Return how many pixels TensorFlow adds on both sides together."""
    return max((-(-size // stride) - 1) * stride + kernel - size, 0)
