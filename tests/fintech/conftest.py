"""One small trained model for all tests that need one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from quatrain.fintech.models.trees import TreeSettings
from quatrain.fintech.simulation.handbook import write_handbook_like
from quatrain.fintech.train.config import TrainConfig
from quatrain.fintech.train.run import TrainResult, train


@dataclass(frozen=True)
class Trained:
    """A training run, its config and its data."""

    result: TrainResult
    config: TrainConfig
    data: Path
    run_folder: Path

    @property
    def bundle(self) -> Path:
        """The sealed bundle's folder."""
        return self.result.bundle.path


def write_world(path: Path, *, seed: int = 3, days: int = 30) -> Path:
    """Write a small synthetic set and return its path."""
    write_handbook_like(
        path,
        seed=seed,
        customers=300,
        terminals=400,
        days=days,
        radius=10.0,
        compromised_terminals=1,
        compromised_customers=1,
    )
    return path


def small_config(data: Path, **changes: object) -> TrainConfig:
    """Return a config that trains in seconds."""
    quick = {
        "data": str(data),
        "recipe": {"trees": {"lightgbm": TreeSettings(max_rounds=40, step=10, n_seeds=2, learning_rate=0.1)}},
        "n_folds": 1,
        "n_resamples": 20,
        "alert_budget": 0.01,
        "cards_per_day": 20,
    }
    return TrainConfig.model_validate(quick | changes)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Return a champion sealed into a folder, not published."""
    home = tmp_path_factory.mktemp("trained")
    data = write_world(home / "transactions.parquet")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("QUATRAIN_CORE__HOME", str(home / "home"))
        config = small_config(data, out=home / "bundle")
        result = train(config)
    return Trained(result=result, config=config, data=data, run_folder=home / "home" / "runs" / result.run_id)
