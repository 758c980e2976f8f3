"""Networks on tables that apps and benchmarks share: a Transformer over columns, one token to each."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

# Width of a gated hidden layer over that of the tokens (Gorishniy et al., appendix E): 4 / 3.
_GATED_ABOVE, _GATED_BELOW = 4, 3


class TokenTransformer(nn.Module):
    """One number from tokens, (B, length, width) -> (B,); the answer is read from one more token.

    The blocks of the FT-Transformer (Gorishniy et al., "Revisiting Deep Learning Models for Tabular
    Data", NeurIPS 2021): normalised before attention and before a gated layer.
    """

    def __init__(self, *, width: int, n_blocks: int, n_heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        if width % n_heads:
            raise ValueError(f"expected a width that is a multiple of the heads, got {width} and {n_heads}")
        self.summary = nn.Parameter(torch.randn(1, 1, width) / width**0.5)
        self.blocks = nn.ModuleList(_Block(width, n_heads, dropout) for _ in range(n_blocks))
        self.last_norm = nn.LayerNorm(width)
        self.last = nn.Linear(width, 1)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the number that each row's tokens stand for, (B,)."""
        x = torch.cat([self.summary.expand(tokens.shape[0], -1, -1), tokens], dim=1)  # (B, 1 + length, width)
        for block in self.blocks:
            x = block(x)
        number: Tensor = self.last(functional.relu(self.last_norm(x[:, 0]))).squeeze(1)
        return number


class FTTransformer(nn.Module):
    """The probability of a row's label from its columns, (B, columns) -> (B,): the FT-Transformer of numbers.

    Every number becomes a token by a vector of its own that it scales, and one that is added.
    """

    def __init__(self, *, n_columns: int, width: int = 192, n_blocks: int = 3, n_heads: int = 8) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.randn(n_columns, width) / width**0.5)
        self.shift = nn.Parameter(torch.randn(n_columns, width) / width**0.5)
        self.transformer = TokenTransformer(width=width, n_blocks=n_blocks, n_heads=n_heads)

    def forward(self, columns: Tensor) -> Tensor:
        """Return probabilities, (B,)."""
        return torch.sigmoid(self.logits(columns))

    def logits(self, columns: Tensor) -> Tensor:
        """Return log odds, (B,)."""
        tokens = columns.unsqueeze(-1) * self.scale + self.shift  # (B, columns, width)
        odds: Tensor = self.transformer(tokens)
        return odds


class _Block(nn.Module):
    def __init__(self, width: int, n_heads: int, dropout: float) -> None:
        super().__init__()
        self.n_heads = n_heads
        hidden = _GATED_ABOVE * width // _GATED_BELOW
        self.attention_norm = nn.LayerNorm(width)
        # Three products, as published: one that is split afterwards costs a copy of all tokens.
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.merged = nn.Linear(width, width)
        self.feed_norm = nn.LayerNorm(width)
        self.linear = nn.Linear(width, hidden)
        self.gate = nn.Linear(width, hidden)
        self.narrowed = nn.Linear(hidden, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.attention_norm(x)
        query, key, value = (self._heads(product(tokens)) for product in (self.query, self.key, self.value))
        attended = functional.scaled_dot_product_attention(query, key, value)
        x = x + self.dropout(self.merged(attended.transpose(1, 2).reshape(x.shape)))
        tokens = self.feed_norm(x)
        fed: Tensor = x + self.dropout(self.narrowed(self.linear(tokens) * functional.relu(self.gate(tokens))))
        return fed

    def _heads(self, tokens: Tensor) -> Tensor:
        n, length, _ = tokens.shape
        return tokens.reshape(n, length, self.n_heads, -1).transpose(1, 2)  # (n, heads, length, width / heads)
