"""What a benchmark trains of the Transformer on tables that it compresses."""

from __future__ import annotations

from torch import Tensor, nn


class TableLogits(nn.Module):
    """What is trained of an FTTransformer: columns in, log odds out, its parameters the model's own."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, columns: Tensor) -> Tensor:
        """Return log odds (B,) of rows (B, columns)."""
        return self.model.logits(columns)
