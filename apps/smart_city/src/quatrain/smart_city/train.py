"""`quatrain smart-city train`: the rolling optimisation's weights, fitted on generated networks, shown on others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from quatrain.core import tracking
from quatrain.core.config import Config
from quatrain.smart_city.controllers.settings import ControlSettings
from quatrain.smart_city.data.scenario import Scenario, read_scenario
from quatrain.smart_city.metrics import paired_difference
from quatrain.smart_city.networks.config import NetworkConfig
from quatrain.smart_city.networks.generate import cached_scenario
from quatrain.smart_city.simulation.pool import Pool
from quatrain.smart_city.simulation.result import Job

# The weights that are fitted, with how far a step moves each on a log scale.
_FITTED = {"stop_s": 0.5, "startup_s": 0.3, "headway_s": 0.1}
_KINDS: tuple[Literal["crossing", "arterial", "irregular", "grid"], ...] = ("crossing", "arterial", "irregular", "grid")
_CONFIDENCE = 0.90
# More delay than this on one held-out network is a step back.
_NO_WORSE = 1.01


class TrainConfig(Config):
    """How the weights are fitted: the `[smart_city.train]` section."""

    # Generated networks to fit on, and others to show the result on.
    n_networks: int = Field(default=4, ge=1)
    n_held_out: int = Field(default=4, ge=2)
    duration_s: int = Field(default=900, ge=120)
    # Weights that are tried.
    budget: int = Field(default=12, ge=1)
    seed: int = Field(default=0, ge=0)
    workers: int | None = Field(default=None, ge=1)


@dataclass(frozen=True, kw_only=True)
class Trained:
    """The fitted weights, whether they are kept, and the held-out table that says so."""

    settings: ControlSettings
    is_promoted: bool
    # Delay under the default and the fitted weights, by held-out network, in seconds.
    held_out: tuple[tuple[str, float, float], ...]
    difference_s: float
    interval_s: tuple[float, float]
    path: Path

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return {
            "app": "smart-city",
            "task": "signal-control",
            "settings": str(self.path),
            "is_promoted": self.is_promoted,
            "weights": {name: getattr(self.settings, name) for name in _FITTED},
            "difference_s": self.difference_s,
            "interval_s": list(self.interval_s),
            "rows": [
                {"name": name, "split": "test", "metrics": {"delay_s": fitted, "default_delay_s": default}}
                for name, default, fitted in self.held_out
            ],
        }


def train(config: TrainConfig) -> Trained:
    """Return fitted weights, as a TOML file for --config; kept only where no held-out network gets worse.

    Random steps around the best weights so far, on common random numbers. "Worse" is more than the
    default's delay by over one per cent on any held-out network, or a paired interval above zero.
    """
    rng = np.random.default_rng(config.seed)
    numbers = range(config.n_networks + config.n_held_out)
    scenarios = [read_scenario(cached_scenario(_network(number, config))) for number in numbers]
    fit_on, held_out = scenarios[: config.n_networks], scenarios[config.n_networks :]
    best = ControlSettings()
    with tracking.start_run(app="smart-city", command="train", config=config.model_dump(mode="json")) as run:
        with Pool(config.workers) as pool:
            default = _delays(fit_on, best, pool, config.seed)
            best_ratio = 1.0
            for step in range(config.budget):
                tried = _step(best, rng)
                delays = _delays(fit_on, tried, pool, config.seed)
                ratio = float(np.mean([b / a for a, b in zip(default, delays, strict=True)]))
                best, best_ratio = (tried, ratio) if ratio < best_ratio else (best, best_ratio)
                run.log(step=step, tried_ratio=ratio, best_ratio=best_ratio)
            before = _delays(held_out, ControlSettings(), pool, config.seed)
            after = _delays(held_out, best, pool, config.seed)
        difference, interval = paired_difference(after, before, confidence=_CONFIDENCE)
        no_worse = all(fitted <= _NO_WORSE * own for own, fitted in zip(before, after, strict=True))
        is_promoted = best_ratio < 1 and interval[1] <= 0 and no_worse
        path = run.folder / "control.toml"
        path.write_text(_toml(best if is_promoted else ControlSettings()), encoding="utf-8")
        run.finish(metrics={"held_out_difference_s": difference, "is_promoted": float(is_promoted)})
    table = tuple(zip((_title(each) for each in held_out), before, after, strict=True))
    return Trained(
        settings=best,
        is_promoted=is_promoted,
        held_out=table,
        difference_s=difference,
        interval_s=interval,
        path=path,
    )


def _network(number: int, config: TrainConfig) -> NetworkConfig:
    kind = _KINDS[number % len(_KINDS)]
    return NetworkConfig(
        kind=kind,
        columns=2,
        rows=2,
        lanes=1 + number % 2,
        lane_vph=(250, 330, 400)[number % 3],
        duration_s=config.duration_s,
        cool_down_s=config.duration_s // 6,
        seed=config.seed + number,
    )


def _step(around: ControlSettings, rng: np.random.Generator) -> ControlSettings:
    moved = {name: getattr(around, name) * float(np.exp(rng.normal(0, size))) for name, size in _FITTED.items()}
    return ControlSettings.model_validate({**around.model_dump(), **moved})


def _delays(scenarios: Sequence[Scenario], settings: ControlSettings, pool: Pool, seed: int) -> list[float]:
    base = Job(scenario=scenarios[0], controller="rolling", seed=seed, settings=settings)
    return [run.metrics["delay_s"] for run in pool.run([replace(base, scenario=each) for each in scenarios])]


def _toml(settings: ControlSettings) -> str:
    lines = [f"{name} = {value}" for name, value in settings.model_dump().items()]
    return "\n".join(["[smart_city.evaluate.control]", *lines]) + "\n"


def _title(scenario: Scenario) -> str:
    return scenario.network.parent.name
