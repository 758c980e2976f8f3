"""The same anatomy as other machines and other hands would show it: for training only."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from quatrain.core.vision.augmentation import Augment, Augmentation
from quatrain.healthcare.models.settings import Intensity

_SMALLEST_COVER, _LARGEST_COVER = 0.05, 0.4
_HALF = 0.5


class RadiographAugment(nn.Module):
    """Images (B, C, H, W) on a scale of 0 to 1, moved and shown otherwise in training, and as they are else."""

    kernel: Tensor

    def __init__(self, moved: Augmentation, shown: Intensity) -> None:
        super().__init__()
        self.move = Augment(moved)
        self.shown = shown
        row = torch.tensor([0.25, 0.5, 0.25])
        self.register_buffer("kernel", (row[:, None] * row)[None, None], persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Return images of the same shape; draws come from torch's global generator."""
        if not self.training:
            return images
        s = self.shown
        images = self.move(images).clamp(0, 1) ** torch.exp(self._even(images, s.gamma))
        centre = images.mean((1, 2, 3), keepdim=True)
        images = (
            (images - centre) * torch.exp(self._even(images, s.contrast)) + centre + self._even(images, s.brightness)
        )
        chosen = (torch.rand(len(images), 1, 1, 1) < s.blur).to(images)
        images = images + (self._blurred(images) - images) * self._even(images, 1.0) * chosen
        deviation = s.noise * torch.rand(len(images), 1, 1, 1, device=images.device)
        images = (images + deviation * torch.randn_like(images)).clamp(0, 1)
        return self._covered(images) if s.cover else images

    @staticmethod
    def _even(images: Tensor, most: float) -> Tensor:
        return (2 * torch.rand(len(images), 1, 1, 1, device=images.device) - 1) * most

    def _blurred(self, images: Tensor) -> Tensor:
        channels = images.shape[1]
        padded = functional.pad(images, (1, 1, 1, 1), mode="replicate")
        return functional.conv2d(padded, self.kernel.expand(channels, 1, 3, 3), groups=channels)

    def _covered(self, images: Tensor) -> Tensor:
        n, _, height, width = images.shape
        sides = _SMALLEST_COVER + (_LARGEST_COVER - _SMALLEST_COVER) * torch.rand(n, 2, 1, device=images.device)
        centres = torch.rand(n, 2, 1, device=images.device)
        near = [
            (torch.linspace(0, 1, size, device=images.device) - centres[:, axis]).abs() < sides[:, axis] / 2
            for axis, size in enumerate((height, width))
        ]
        is_chosen = torch.rand(n, 1, 1, device=images.device) < self.shown.cover
        area = (near[0][:, :, None] & near[1][:, None, :] & is_chosen)[:, None]
        return torch.where(area, torch.rand(n, 1, 1, 1, device=images.device), images)
