"""TabM: several networks that share their weights, as one (Gorishniy, Kotelnikov and Babenko, ICLR 2025).

Each hidden layer is one matrix for all members, before and after which a member scales by vectors
of its own (BatchEnsemble); each input enters by a piecewise linear encoding (Gorishniy, Rubachev
and Babenko, "On Embeddings for Numerical Features in Tabular Deep Learning", NeurIPS 2022).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from quatrain.core import export
from quatrain.core.errors import UserError
from quatrain.core.training import evaluate
from quatrain.core.training.config import FitConfig
from quatrain.core.training.fit import fit
from quatrain.core.training.seeds import seed_everything
from quatrain.fintech.metrics.scored import Labels
from quatrain.fintech.models.fold import Exported, X
from quatrain.fintech.models.tabm_settings import TabmSettings

_PREDICT_ROWS = 8_192
# Quantiles beside the even ones: fraud is where values are rare.
_TAIL = (0.99, 0.997, 0.999)


class Encoding(nn.Module):
    """Each input as the share of each of its bins that lies below it, (B, F) -> (B, F, T), in [0, 1].

    An input with fewer distinct quantiles has empty bins, which are 0.
    """

    low: Tensor
    width: Tensor

    def __init__(self, x: X, *, bins: int) -> None:
        super().__init__()
        at = np.unique([*np.linspace(0, 1, bins + 1), *_TAIL])
        low = np.full((x.shape[1], len(at) - 1), np.inf, dtype=np.float32)
        width = np.ones_like(low)
        for place, column in enumerate(x.T):
            edges = np.unique(np.quantile(column, at, method="inverted_cdf"))
            low[place, : len(edges) - 1] = edges[:-1]
            width[place, : len(edges) - 1] = np.diff(edges)
        self.register_buffer("low", torch.from_numpy(low))
        self.register_buffer("width", torch.from_numpy(width))

    def forward(self, x: Tensor) -> Tensor:
        """Return the encoded inputs."""
        return ((x[:, :, None] - self.low) / self.width).clamp(0, 1)  # (B, F, T)


class FraudTabm(nn.Module):
    """Log odds of fraud by each member from raw inputs, (B, F) float32 -> (B, k)."""

    def __init__(self, x: X, settings: TabmSettings, *, prior: float) -> None:
        super().__init__()
        self.encoding = Encoding(x, bins=settings.bins)
        n_inputs, n_bins = self.encoding.low.shape
        k, d = settings.members, settings.embedding
        self.embed = nn.Parameter(torch.randn(n_inputs, n_bins, d) / n_bins**0.5)
        self.embed_bias = nn.Parameter(torch.zeros(n_inputs, d))
        sizes = [n_inputs * d, *settings.hidden]
        self.layers = nn.ModuleList(nn.Linear(a, b, bias=False) for a, b in itertools.pairwise(sizes))
        # Members differ by the signs with which they read the inputs; all else starts alike.
        signs = torch.randint(0, 2, (k, sizes[0])) * 2.0 - 1
        self.before = nn.ParameterList([signs, *(torch.ones(k, size) for size in sizes[1:-1])])
        self.after = nn.ParameterList([torch.ones(k, size) for size in sizes[1:]])
        self.bias = nn.ParameterList([_uniform(k, b, fan_in=a) for a, b in itertools.pairwise(sizes)])
        self.head = nn.Parameter(_uniform(k, sizes[-1], fan_in=sizes[-1]))
        # Starts at the fraud rate, so that the first epochs are not spent on learning it.
        self.head_bias = nn.Parameter(torch.full((k,), float(np.log(prior / (1 - prior)))))
        self.dropout = nn.Dropout(settings.dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Return log odds, (B, k)."""
        encoded = self.encoding(x).transpose(0, 1)  # (F, B, T)
        embedded = torch.bmm(encoded, self.embed).transpose(0, 1)  # (B, F, d)
        z = torch.relu(embedded + self.embed_bias).flatten(1)[:, None]  # (B, 1, F d)
        for layer, before, after, bias in zip(self.layers, self.before, self.after, self.bias, strict=True):
            z = self.dropout(torch.relu(layer(z * before) * after + bias))  # (B, k, hidden)
        odds: Tensor = (z * self.head).sum(-1) + self.head_bias
        return odds


class Probability(nn.Module):
    """The module that is exported: raw inputs in, the members' mean probability of fraud out."""

    def __init__(self, tabm: FraudTabm) -> None:
        super().__init__()
        self.tabm = tabm

    def forward(self, x: Tensor) -> Tensor:
        """Return probabilities, (B,)."""
        return torch.sigmoid(self.tabm(x)).mean(-1)


def train_tabm(
    settings: TabmSettings, x: X, y: Labels, *, seed: int, valid: tuple[X, Labels] | None = None
) -> tuple[FraudTabm, list[NDArray[np.float32]]]:
    """Return the network, and its probabilities for the rows of `valid` after each epoch.

    Raises UserError when SIGTERM ended the training: half-trained weights may not be sealed.
    """
    seed_everything(seed)
    model = FraudTabm(x, settings, prior=float(np.clip(y.mean(), 1e-6, 0.5)))
    looks: list[NDArray[np.float32]] = []

    def look(odds: Any, _targets: Any) -> dict[str, float]:
        looks.append(torch.sigmoid(odds).mean(-1).numpy())
        return {}

    config = FitConfig(
        epochs=settings.epochs,
        batch_size=settings.batch_size,
        learning_rate=settings.learning_rate,
        weight_decay=settings.weight_decay,
        ema_decay=settings.ema_decay,
        # A constant rate under an average: where training stops does not depend on where it would have ended.
        schedule="constant",
        seed=seed,
        device=settings.device,
        drop_last=len(x) > settings.batch_size,
    )
    later = None if valid is None else _tensors(*valid)
    result = fit(model, _tensors(x, y), later, loss=_loss, config=config, metrics=look, resume=False)
    if result.status == "stopped":
        raise UserError(
            f"training ended at epoch {result.epochs} of {config.epochs}: {result.reason}; "
            "nothing was sealed, start the command again"
        )
    return model.cpu().eval(), looks


def predict(model: FraudTabm, x: X) -> NDArray[np.float32]:
    """Return the probability of fraud of each row, float32 of shape (n,)."""
    rows = torch.from_numpy(np.ascontiguousarray(x))
    module = Probability(model).eval()
    probability: NDArray[np.float32] = evaluate.predict(module, rows, batch_size=_PREDICT_ROWS).numpy()
    return probability


def exported(model: FraudTabm) -> Exported:
    """Return the network as a graph, raw inputs to `probability`, with its weights."""
    example = {"features": torch.zeros(2, len(model.encoding.low))}
    onnx = export.torch_model(Probability(model), example, output_names=["probability"])
    return Exported(onnx=onnx, weights={name: value.numpy() for name, value in model.state_dict().items()})


def _uniform(*size: int, fan_in: int) -> Tensor:
    values: Tensor = (torch.rand(*size) * 2 - 1) / fan_in**0.5
    return values


def _tensors(x: X, y: Labels) -> Sequence[Tensor]:
    return torch.from_numpy(np.ascontiguousarray(x)), torch.from_numpy(y.astype(np.float32))


def _loss(odds: Tensor, targets: Tensor) -> Tensor:
    # Each member learns from its own mistakes: the mean of the losses, not the loss of the mean.
    each = nn.functional.binary_cross_entropy_with_logits(odds, targets[:, None].expand_as(odds), reduction="none")
    return each.mean(-1)
