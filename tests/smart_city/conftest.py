"""Small generated scenarios, made once for all tests of a process."""

from __future__ import annotations

from pathlib import Path

import pytest

from quatrain.smart_city.data.scenario import Scenario, read_scenario
from quatrain.smart_city.networks.config import NetworkConfig
from quatrain.smart_city.networks.generate import generate_scenario
from quatrain.smart_city.signals.model import SignalModel, signal_models


@pytest.fixture(scope="session")
def crossing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the .sumocfg of one signal with pavements, crossings and walkers; four minutes long."""
    config = NetworkConfig(
        kind="crossing", has_crossings=True, block_m=120, duration_s=240, cool_down_s=120, walkers_per_hour=120, seed=3
    )
    return generate_scenario(config, tmp_path_factory.mktemp("crossing") / "city")


@pytest.fixture(scope="session")
def junction(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the .sumocfg of one signal for cars only; five minutes long, the last two without departures."""
    config = NetworkConfig(kind="crossing", block_m=150, duration_s=300, cool_down_s=120, lane_vph=300, seed=4)
    return generate_scenario(config, tmp_path_factory.mktemp("junction") / "city")


@pytest.fixture(scope="session")
def crossing_model(crossing: Path) -> SignalModel:
    """Return the only signal of `crossing`."""
    return only(read_scenario(crossing))


@pytest.fixture(scope="session")
def junction_model(junction: Path) -> SignalModel:
    """Return the only signal of `junction`."""
    return only(read_scenario(junction))


def only(scenario: Scenario) -> SignalModel:
    """Return the one signal of a scenario."""
    (model,) = signal_models(scenario.read_network()).values()
    return model
