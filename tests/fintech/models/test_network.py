"""Networks that stand in place of the trees: raw inputs to a probability, in torch and in the graph."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from quatrain.core import export
from quatrain.core.inference import open_session
from quatrain.fintech.metrics.ranking import average_precision
from quatrain.fintech.metrics.scored import Labels
from quatrain.fintech.models import recipe
from quatrain.fintech.models.fold import Fold, X
from quatrain.fintech.models.network import Kind, exported, make, predict, train
from quatrain.fintech.models.network_recipe import Network, NetworkRecipe
from quatrain.fintech.models.network_settings import MlpSettings, NetworkTraining, TransformerSettings
from quatrain.fintech.models.recipe_settings import RecipeSettings
from quatrain.fintech.models.tabm_settings import TabmSettings

TRAINING: dict[str, Any] = {"bins": 8, "epochs": 4, "batch_size": 128, "learning_rate": 1e-2, "device": "cpu"}
SETTINGS: dict[Kind, NetworkTraining] = {
    "mlp": MlpSettings(hidden=(16, 8), **TRAINING),
    "transformer": TransformerSettings(width=16, blocks=1, heads=2, **TRAINING),
}
NAMES = ("amount", "customer_mean_1d", "customer_mean_7d")


@pytest.fixture(scope="module")
def rows() -> tuple[X, Labels]:
    """Return raw inputs on very different scales; what is fraud depends on the amount over a mean."""
    rng = np.random.default_rng(0)
    x = np.exp(rng.normal(size=(1500, 3)) * (1, 0.5, 0.1) + (3, 4, -9))
    return x.astype(np.float32), rng.random(1500) < 1 / (1 + np.exp(2 - 2 * np.log(x[:, 0] / x[:, 1])))


@pytest.mark.parametrize("kind", SETTINGS)
def test_it_learns_and_the_graph_gives_the_same(kind: Kind, rows: tuple[X, Labels]) -> None:
    """Later rows rank above chance, and each batch size answers alike, extremes included; weights come along."""
    x, y = rows
    model, looks = train(kind, SETTINGS[kind], x[:1000], y[:1000], seed=0, valid=(x[1000:], y[1000:]))
    assert len(looks) == SETTINGS[kind].epochs
    assert average_precision(y[1000:], looks[-1].astype(np.float64)) > 1.5 * y.mean()
    wide = np.concatenate([x[:60], np.full((1, 3), 3e38), np.full((1, 3), -3e38)]).astype(np.float32)
    made = exported(model)
    worst = export.check_parity(made.onnx, {"features": wide}, {"probability": predict(model, wide)}, atol=1e-5)
    assert worst < 1e-5
    assert made.weights is not None
    assert made.weights.keys() == model.state_dict().keys()


@pytest.mark.parametrize("kind", SETTINGS)
def test_it_starts_at_the_fraud_rate(kind: Kind, rows: tuple[X, Labels]) -> None:
    """Before training the scores lie around the prior, also where nothing was fraud."""
    torch.manual_seed(0)
    assert np.median(predict(make(kind, rows[0], SETTINGS[kind], prior=0.002), rows[0])) < 0.01
    assert np.isfinite(predict(make(kind, rows[0], SETTINGS[kind], prior=0.0), rows[0])).all()


def test_a_setting_chooses_the_network(rows: tuple[X, Labels]) -> None:
    """Its epochs are those that rank the later rows best; quotients of inputs are made inside its graph."""
    x, y = rows
    fold = Fold(x_train=x[:1000], y_train=y[:1000], x_valid=x[1000:], y_valid=y[1000:])
    told: list[tuple[str, int, float]] = []
    settings = RecipeSettings(model="mlp", mlp=SETTINGS["mlp"])
    chosen = recipe.choose([fold], settings, seed=0, names=NAMES, on_look=lambda *look: told.append(look))
    assert isinstance(chosen, NetworkRecipe)
    aps = [ap for _, _, ap in told]
    assert [(part, epoch) for part, epoch, _ in told] == [("mlp", epoch) for epoch in (1, 2, 3, 4)]
    assert (chosen.settings.epochs, chosen.valid_ap["mlp"]) == (1 + int(np.argmax(aps)), max(aps))
    # The amount over either mean, and the short mean over the long one.
    assert chosen.ratios == ((0, 1), (0, 2), (1, 2))
    fitted = recipe.fit(chosen, x[:1000], y[:1000], seed=0)
    assert isinstance(fitted, Network)
    [score] = open_session(fitted.export().onnx).run(["probability"], {"features": x[1000:]})
    np.testing.assert_allclose(score, fitted.predict(x[1000:]), atol=1e-6)
    summary = chosen.summary()
    assert (summary["model"], summary["hidden"], summary["ratios"]) == ("mlp", [16, 8], [[0, 1], [0, 2], [1, 2]])
    assert "device" not in summary


def test_each_kind_has_its_settings() -> None:
    """TabM alone takes those of the network beside the trees, or its defaults."""
    assert RecipeSettings().network is None
    assert RecipeSettings(model="tabm").network == ("tabm", TabmSettings())
    assert RecipeSettings(model="tabm", tabm=TabmSettings(members=2)).network == ("tabm", TabmSettings(members=2))
    assert RecipeSettings(model="transformer").network == ("transformer", TransformerSettings())


def test_heads_must_share_the_width() -> None:
    """A slip in the config is told before any data is read."""
    with pytest.raises(ValidationError, match="width must be a multiple of heads, got 64 and 5"):
        TransformerSettings(heads=5)


def test_reading_settings_needs_no_torch() -> None:
    """`train --help` and a config file must not pay for it."""
    code = "import quatrain.fintech.models.recipe, sys; sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=False)
    assert done.returncode == 0
