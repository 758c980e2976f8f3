"""A network alone as the shipped model: epochs chosen on validation folds, then trained wherever it is needed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from quatrain.core import graphs
from quatrain.core.graphs import log_odds
from quatrain.fintech.metrics.scored import Floats, Labels
from quatrain.fintech.models.fold import Exported, Fold, X, mean_ap
from quatrain.fintech.models.network_settings import NetworkTraining
from quatrain.fintech.models.ratios import Pairs, with_ratios

if TYPE_CHECKING:
    from torch import nn

    from quatrain.fintech.models.network import Kind

_LOG = logging.getLogger(__name__)

# Told the epochs so far and the mean average precision over the folds.
OnEpoch = Callable[[int, float], None]


@dataclass(frozen=True, kw_only=True)
class NetworkRecipe:
    """What was chosen: the kind of network, the epochs that it is trained for, and its further columns."""

    kind: Kind
    settings: NetworkTraining
    # Mean average precision over the folds.
    valid_ap: Mapping[str, float]
    # Places of the inputs whose quotients are further columns.
    ratios: Pairs = ()

    def summary(self) -> dict[str, Any]:
        """Return what a manifest, a card or a report says of it."""
        return {
            "model": self.kind,
            **self.settings.model_dump(mode="json", exclude={"device"}),
            "ratios": [list(pair) for pair in self.ratios],
            "valid_ap": dict(self.valid_ap),
        }


@dataclass(frozen=True, kw_only=True)
class Network:
    """A trained network with the quotients that it reads beside the inputs."""

    module: nn.Module
    n_inputs: int
    ratios: Pairs = ()

    def predict(self, x: X) -> Floats:
        """Return the score of each row, float64 of shape (n,), in [0, 1]."""
        from quatrain.fintech.models import network

        return network.predict(self.module, with_ratios(x, self.ratios)).astype(np.float64)

    def export(self) -> Exported:
        """Return the model as one graph: float32 features in, float32 probability out."""
        from quatrain.fintech.models import network

        made = network.exported(self.module)
        return Exported(onnx=with_quotients(made.onnx, self.ratios, n_inputs=self.n_inputs), weights=made.weights)


def with_quotients(onnx: bytes, ratios: Pairs, *, n_inputs: int) -> bytes:
    """Return the network's graph fed with the quotients that it reads, made inside the graph."""
    if not ratios:
        return onnx
    return graphs.with_columns(onnx, [graphs.quotients_model(ratios, n_columns=n_inputs)])


def choose_network(
    kind: Kind, settings: NetworkTraining, folds: Sequence[Fold], *, ratios: Pairs, seed: int, on_epoch: OnEpoch
) -> NetworkRecipe:
    """Return the network with the epochs that rank the folds' later rows best."""
    wide = [
        replace(fold, x_train=with_ratios(fold.x_train, ratios), x_valid=with_ratios(fold.x_valid, ratios))
        for fold in folds
    ]
    epochs, odds = best_epochs(kind, settings, wide, seed=seed, on_epoch=on_epoch)
    ap = mean_ap(wide, odds)
    _LOG.info("%s of %d epochs: validation AP %.4f", kind, epochs, ap)
    return NetworkRecipe(
        kind=kind, settings=settings.model_copy(update={"epochs": epochs}), ratios=ratios, valid_ap={kind: ap}
    )


def best_epochs(
    kind: Kind, settings: NetworkTraining, folds: Sequence[Fold], *, seed: int, on_epoch: OnEpoch
) -> tuple[int, list[Floats]]:
    """Return the epochs with the highest mean average precision of the network alone, and its log odds there."""
    from quatrain.fintech.models import network

    looks = [
        network.train(kind, settings, f.x_train, f.y_train, seed=seed, valid=(f.x_valid, f.y_valid))[1] for f in folds
    ]
    by_epoch = [[log_odds(look) for look in epoch] for epoch in zip(*looks, strict=True)]
    aps = [mean_ap(folds, of_epoch) for of_epoch in by_epoch]
    for epoch, ap in enumerate(aps, start=1):
        on_epoch(epoch, ap)
    best = int(np.argmax(aps))
    return best + 1, by_epoch[best]


def fit_network(recipe: NetworkRecipe, x: X, y: Labels, *, seed: int) -> Network:
    """Return the recipe's network trained on these rows."""
    from quatrain.fintech.models import network

    module, _ = network.train(recipe.kind, recipe.settings, with_ratios(x, recipe.ratios), y, seed=seed)
    return Network(module=module, n_inputs=x.shape[1], ratios=recipe.ratios)
