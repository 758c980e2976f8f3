"""One small perceptron, trained and sealed by the command's own code, for all tests of compression."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.fintech.conftest import small_config, write_world

from quatrain.core.bundle.open import Bundle
from quatrain.fintech.compress.config import CompressConfig
from quatrain.fintech.train import run as training_run

NETWORK = {"epochs": 3, "batch_size": 128, "hidden": (32, 16), "bins": 8, "device": "cpu"}


@dataclass(frozen=True)
class Sealed:
    """A sealed perceptron, its data, and the home that holds what training left beside it."""

    bundle: Bundle
    data: Path
    home: Path

    def config(self, out: Path | None = None, **changes: object) -> CompressConfig:
        """Return a config that compresses it in seconds."""
        quick = {"data": str(self.data), "bundle": str(self.bundle.path), "out": out, "plan": "int8:minmax"}
        # A busy machine may time a tiny network either way.
        quick |= {"min_speedup": 0.01, "metric_drop": 0.1, "n_resamples": 20, "batch_size": 64}
        return CompressConfig.model_validate(quick | changes)


@pytest.fixture(scope="session")
def perceptron(tmp_path_factory: pytest.TempPathFactory) -> Sealed:
    """Return a perceptron in a bundle, with labels that come two days late."""
    home = tmp_path_factory.mktemp("perceptron")
    data = write_world(home / "transactions.parquet", days=20)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("QUATRAIN_CORE__HOME", str(home / "home"))
        # What it is compared with takes longer to train than it does.
        patch.setattr(training_run, "BASELINES", {})
        config = small_config(
            data, out=home / "bundle", recipe={"model": "mlp", "mlp": NETWORK}, label_delay_days=2, alert_budget=0.02
        )
        result = training_run.train(config)
    return Sealed(bundle=result.bundle, data=data, home=home / "home")
