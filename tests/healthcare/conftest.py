"""One small trained model for all tests that need one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from quatrain.healthcare.train.config import TrainConfig
from quatrain.healthcare.train.run import TrainResult, train


@dataclass(frozen=True)
class Trained:
    """A training run, its data and another site's."""

    result: TrainResult
    data: Path

    @property
    def bundle(self) -> Path:
        """The sealed bundle's folder."""
        return self.result.bundle.path


def blobs(n: int, *, seed: int, side: int = 20, haze: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Return pictures with an up and a down, and whether a bright spot is in them; `haze` is another site's."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, n)
    y, x = np.mgrid[:side, :side] / side
    base = 60 + 90 * y + 40 * np.exp(-((x - 0.3) ** 2) / 0.02)
    cx, cy = rng.uniform(0.25, 0.75, (2, n, 1, 1))
    spot = np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / 0.015)
    strength = labels[:, None, None] * rng.uniform(60, 110, (n, 1, 1)) + haze * rng.uniform(20, 80, (n, 1, 1))
    noisy = base + strength * spot + rng.normal(0, 8, (n, side, side)) + rng.normal(0, 10, (n, 1, 1))
    return noisy.clip(0, 255).astype(np.uint8), labels


def write_blobs(path: Path, *, side: int = 20) -> Path:
    """Write a MedMNIST file whose test split comes from another site."""
    arrays = {}
    for split, n, seed, haze in (("train", 500, 1, 0.0), ("val", 200, 2, 0.0), ("test", 400, 3, 1.0)):
        arrays[f"{split}_images"], arrays[f"{split}_labels"] = blobs(n, seed=seed, side=side, haze=haze)
    arrays["test_sex"] = np.array(["female", "male"] * 200)
    np.savez(path, **arrays)
    return path


def small_config(data: Path, **changes: object) -> TrainConfig:
    """Return a config that trains in seconds."""
    model = {
        "members": 2,
        "width": 4,
        "dropout": 0.0,
        "fit": {
            "epochs": 5,
            "batch_size": 32,
            "learning_rate": 5e-3,
            "schedule": "one_cycle",
            "warmup_fraction": 0.2,
            "ema_decay": 0.9,
            "drop_last": True,
        },
    }
    return TrainConfig.model_validate({"data": str(data), "model": model, "n_resamples": 20, "n_views": 1} | changes)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Return a model sealed into a folder, not published."""
    home = tmp_path_factory.mktemp("trained")
    data = write_blobs(home / "blobs.npz")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("QUATRAIN_CORE__HOME", str(home / "home"))
        result = train(small_config(data, out=home / "bundle"))
    return Trained(result=result, data=data)
