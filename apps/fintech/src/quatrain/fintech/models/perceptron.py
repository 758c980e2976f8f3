"""A perceptron on raw inputs: scaling is part of the module, so it travels with the weights."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from quatrain.core.errors import UserError
from quatrain.core.tracking import Run
from quatrain.core.training import evaluate
from quatrain.core.training.config import FitConfig
from quatrain.core.training.fit import fit
from quatrain.core.training.seeds import seed_everything
from quatrain.fintech.metrics.ranking import average_precision
from quatrain.fintech.metrics.scored import Floats, Labels
from quatrain.fintech.models.perceptron_settings import PerceptronSettings

_PREDICT_ROWS = 65_536
# Interquartile ranges from the median; farther than this, float32 ends in infinity and the score in NaN.
_FARTHEST = 1e15


class FraudPerceptron(nn.Module):
    """Log-odds of fraud from raw inputs.

    Shape: (B, F) float32 -> (B,). Each input is centred on its median, divided by its
    interquartile range, compressed by asinh (heavy tails stay ordered and finite) and standardised.
    """

    centre: Tensor
    spread: Tensor
    mean: Tensor
    scale: Tensor

    def __init__(self, x: NDArray[np.float32], *, prior: float, hidden: Sequence[int], dropout: float) -> None:
        super().__init__()
        low, middle, high = np.quantile(x, [0.25, 0.5, 0.75], axis=0)
        spread = np.where(high > low, high - low, np.maximum(x.std(axis=0), 1e-6))
        self.register_buffer("centre", torch.as_tensor(middle, dtype=torch.float32))
        self.register_buffer("spread", torch.as_tensor(spread, dtype=torch.float32))
        squeezed = np.arcsinh((x - middle) / spread)
        self.register_buffer("mean", torch.as_tensor(squeezed.mean(axis=0), dtype=torch.float32))
        deviation = np.maximum(squeezed.std(axis=0), 1e-6)
        self.register_buffer("scale", torch.as_tensor(deviation, dtype=torch.float32))
        sizes = [x.shape[1], *hidden]
        layers: list[nn.Module] = []
        for width_in, width_out in itertools.pairwise(sizes):
            layers += [nn.Linear(width_in, width_out), nn.SiLU(), nn.Dropout(dropout)]
        last = nn.Linear(sizes[-1], 1)
        # Starts at the fraud rate, so that the first epochs are not spent on learning it.
        nn.init.constant_(last.bias, float(np.log(prior / (1 - prior))))
        self.body = nn.Sequential(*layers, last)

    def forward(self, x: Tensor) -> Tensor:
        """Return log-odds, (B,)."""
        x = ((x - self.centre) / self.spread).clamp(-_FARTHEST, _FARTHEST)  # (B, F)
        x = (torch.asinh(x) - self.mean) / self.scale
        logits: Tensor = self.body(x).squeeze(-1)  # (B,)
        return logits


class Probability(nn.Module):
    """The module that is exported: raw inputs in, probability of fraud out."""

    def __init__(self, perceptron: FraudPerceptron) -> None:
        super().__init__()
        self.perceptron = perceptron

    def forward(self, x: Tensor) -> Tensor:
        """Return probabilities, (B,)."""
        return torch.sigmoid(self.perceptron(x))


def train_perceptron(
    settings: PerceptronSettings,
    x: NDArray[np.float32],
    y: Labels,
    *,
    seed: int,
    valid: tuple[NDArray[np.float32], Labels] | None = None,
    run: Run | None = None,
    device: str = "auto",
) -> tuple[FraudPerceptron, int]:
    """Return the perceptron and its epochs: with `valid` those of the best average precision there.

    Raises UserError when SIGTERM ended the training: half-trained weights may not be sealed.
    """
    seed_everything(seed)
    prior = float(np.clip(y.mean(), 1e-6, 0.5))
    model = FraudPerceptron(x, prior=prior, hidden=settings.hidden, dropout=settings.dropout)
    config = FitConfig(
        **settings.model_dump(exclude={"hidden", "dropout", "patience"}),
        # A constant rate under an average: where training stops does not depend on where it would have ended.
        schedule="constant",
        monitor="valid_loss" if valid is None else "valid_ap",
        mode="min" if valid is None else "max",
        patience=None if valid is None else settings.patience,
        seed=seed,
        device=device,
        drop_last=len(x) > settings.batch_size,
    )
    result = fit(
        model,
        _tensors(x, y),
        None if valid is None else _tensors(*valid),
        loss=_loss,
        config=config,
        metrics=_measures,
        run=run,
        resume=False,
    )
    if result.status == "stopped":
        raise UserError(
            f"training ended at epoch {result.epochs} of {config.epochs}: {result.reason}; "
            "nothing was sealed, start the command again"
        )
    steps_per_epoch = max(result.steps // max(result.epochs, 1), 1)
    return model.cpu().eval(), max(round(result.best_step / steps_per_epoch), 1)


def predict(model: FraudPerceptron, x: NDArray[np.float32]) -> Floats:
    """Return the probability of fraud of each row."""
    logits = evaluate.predict(model, torch.from_numpy(np.ascontiguousarray(x)), batch_size=_PREDICT_ROWS)
    return np.asarray(torch.sigmoid(logits).numpy(), dtype=np.float64)


def _tensors(x: NDArray[np.float32], y: Labels) -> tuple[Tensor, Tensor]:
    return torch.from_numpy(np.ascontiguousarray(x)), torch.from_numpy(y.astype(np.float32))


def _loss(logits: Tensor, targets: Tensor) -> Tensor:
    return nn.functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")


def _measures(logits: Any, targets: Any) -> dict[str, float]:
    return {"ap": average_precision(targets.numpy() > 0, logits.numpy().astype(np.float64))}
