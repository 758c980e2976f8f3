"""What all networks share: training on frauds, the probability that is exported, and the graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Protocol, cast

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
from quatrain.fintech.models.encoding import Encoding
from quatrain.fintech.models.fold import Exported, X
from quatrain.fintech.models.mlp import FraudMlp
from quatrain.fintech.models.network_settings import NetworkTraining
from quatrain.fintech.models.tabm import FraudTabm
from quatrain.fintech.models.transformer import FraudTransformer

Kind = Literal["mlp", "tabm", "transformer"]
_PREDICT_ROWS = 8_192
# A prior of 0 or 1 has no log odds.
_PRIORS = (1e-6, 0.5)


class FraudNetwork(Protocol):
    """A module that gives log odds from raw inputs, (B,), or those of its members, (B, k)."""

    encoding: Encoding


class _Makes(Protocol):
    def __call__(self, x: X, settings: Any, *, prior: float) -> nn.Module: ...


_KINDS: dict[Kind, _Makes] = {"mlp": FraudMlp, "tabm": FraudTabm, "transformer": FraudTransformer}


class Probability(nn.Module):
    """The module that is exported: raw inputs in, the probability of fraud out, of members the mean."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        """Return probabilities, (B,)."""
        probability = torch.sigmoid(self.network(x))
        return probability.mean(-1) if probability.ndim > 1 else probability


def make(kind: Kind, x: X, settings: NetworkTraining, *, prior: float) -> nn.Module:
    """Return an untrained network whose encoding is that of `x`."""
    return _KINDS[kind](x, settings, prior=float(np.clip(prior, *_PRIORS)))


def train(
    kind: Kind, settings: NetworkTraining, x: X, y: Labels, *, seed: int, valid: tuple[X, Labels] | None = None
) -> tuple[nn.Module, list[NDArray[np.float32]]]:
    """Return the network, and its probabilities for the rows of `valid` after each epoch.

    Raises UserError when SIGTERM ended the training: half-trained weights may not be sealed.
    """
    seed_everything(seed)
    model = make(kind, x, settings, prior=float(y.mean()))
    looks: list[NDArray[np.float32]] = []

    def look(odds: Any, _targets: Any) -> dict[str, float]:
        looks.append(_mean_probability(odds).numpy())
        return {}

    config = fit_config(settings, seed=seed, n_rows=len(x))
    later = None if valid is None else tensors(*valid)
    result = fit(model, tensors(x, y), later, loss=loss, config=config, metrics=look, resume=False)
    if result.status == "stopped":
        raise UserError(
            f"training ended at epoch {result.epochs} of {config.epochs}: {result.reason}; "
            "nothing was sealed, start the command again"
        )
    return model.cpu().eval(), looks


def fit_config(settings: NetworkTraining, *, seed: int, n_rows: int) -> FitConfig:
    """Return the settings as `fit` takes them."""
    return FitConfig(
        epochs=settings.epochs,
        batch_size=settings.batch_size,
        learning_rate=settings.learning_rate,
        weight_decay=settings.weight_decay,
        ema_decay=settings.ema_decay,
        # A constant rate under an average: where training stops does not depend on where it would have ended.
        schedule="constant",
        seed=seed,
        device=settings.device,
        drop_last=n_rows > settings.batch_size,
    )


def predict(model: nn.Module, x: X) -> NDArray[np.float32]:
    """Return the probability of fraud of each row, float32 of shape (n,)."""
    rows = torch.from_numpy(np.ascontiguousarray(x))
    module = Probability(model).eval()
    probability: NDArray[np.float32] = evaluate.predict(module, rows, batch_size=_PREDICT_ROWS).numpy()
    return probability


def exported(model: nn.Module) -> Exported:
    """Return the network as a graph, raw inputs to `probability`, with its weights."""
    example = {"features": torch.zeros(2, len(cast("FraudNetwork", model).encoding.low))}
    onnx = export.torch_model(Probability(model), example, output_names=["probability"])
    return Exported(onnx=onnx, weights={name: value.numpy() for name, value in model.state_dict().items()})


def tensors(x: X, y: Labels) -> Sequence[Tensor]:
    """Return rows and labels as `fit` takes them."""
    return torch.from_numpy(np.ascontiguousarray(x)), torch.from_numpy(y.astype(np.float32))


def loss(odds: Tensor, targets: Tensor) -> Tensor:
    """Return each row's cross-entropy, (B,); each member learns from its own mistakes."""
    columns = odds.reshape(len(odds), -1)
    spread = targets[:, None].expand_as(columns)
    # The mean of the losses, not the loss of the mean.
    return nn.functional.binary_cross_entropy_with_logits(columns, spread, reduction="none").mean(-1)


def _mean_probability(odds: Tensor) -> Tensor:
    return torch.sigmoid(odds).reshape(len(odds), -1).mean(-1)
