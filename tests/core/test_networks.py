"""Networks on tables: what a Transformer over columns answers, and what it cannot."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from quatrain.core import export
from quatrain.core.networks import FTTransformer, TokenTransformer
from quatrain.core.training.seeds import seed_everything


def test_tokens_have_no_order() -> None:
    """Attention sees a set: the same tokens in another order give the same number."""
    seed_everything(0)
    network = TokenTransformer(width=16, n_blocks=2, n_heads=4).eval()
    tokens = torch.randn(3, 7, 16)
    with torch.no_grad():
        torch.testing.assert_close(network(tokens), network(tokens[:, torch.randperm(7)]))


def test_columns_have_places() -> None:
    """Each column has a token of its own: the same values in other columns are another row."""
    seed_everything(0)
    network = FTTransformer(n_columns=5, width=16, n_blocks=1, n_heads=2).eval()
    columns = torch.randn(4, 5)
    with torch.no_grad():
        assert not torch.allclose(network(columns), network(columns.flip(1)))


def test_a_row_does_not_depend_on_its_batch() -> None:
    """Alone and among others a row has one probability, the sigmoid of its log odds."""
    seed_everything(0)
    network = FTTransformer(n_columns=5, width=16, n_blocks=2, n_heads=2).eval()
    columns = torch.randn(9, 5)
    with torch.no_grad():
        together = network(columns)
        torch.testing.assert_close(torch.cat([network(row[None]) for row in columns]), together)
        torch.testing.assert_close(torch.sigmoid(network.logits(columns)), together)


def test_one_block_is_the_published_one() -> None:
    """Written out once more: normalise, attend head by head, add; normalise, gate by ReGLU, add."""
    seed_everything(0)
    network = TokenTransformer(width=8, n_blocks=1, n_heads=2).eval()
    tokens = torch.randn(1, 3, 8)
    [block] = network.blocks
    x = torch.cat([network.summary, tokens], dim=1)[0].detach()  # (4, 8)
    with torch.no_grad():
        normal = block.attention_norm(x)
        parts = []
        for head in range(2):
            columns = slice(4 * head, 4 * head + 4)
            query, key, value = (layer(normal)[:, columns] for layer in (block.query, block.key, block.value))
            weight = torch.softmax(query @ key.T / 4**0.5, dim=1)
            parts.append(weight @ value)
        x = x + block.merged(torch.cat(parts, dim=1))
        normal = block.feed_norm(x)
        x = x + block.narrowed(block.linear(normal) * torch.relu(block.gate(normal)))
        expected = network.last(torch.relu(network.last_norm(x[0])))
        torch.testing.assert_close(network(tokens), expected)


def test_the_graph_gives_the_same_probabilities() -> None:
    """Exported, it answers alike in batches of 1, 2, 7 and 64."""
    seed_everything(0)
    network = FTTransformer(n_columns=4, width=16, n_blocks=2, n_heads=2).eval()
    columns = torch.randn(64, 4)
    onnx = export.torch_model(network, {"columns": columns[:2]}, output_names=["probability"])
    with torch.no_grad():
        expected = network(columns).numpy()
    worst = export.check_parity(onnx, {"columns": columns.numpy()}, {"probability": expected})
    assert worst < 1e-5
    assert np.ptp(expected) > 0


def test_heads_must_share_the_width() -> None:
    """A width that is no multiple of the heads is refused before any weight is made."""
    with pytest.raises(ValueError, match="a width that is a multiple of the heads, got 10 and 4"):
        TokenTransformer(width=10, n_blocks=1, n_heads=4)
