"""Generated networks are the same for the same config, and their demand is what was asked for."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from quatrain.smart_city.data.scenario import read_scenario
from quatrain.smart_city.networks.config import NetworkConfig
from quatrain.smart_city.networks.generate import cached_scenario, generate_scenario
from quatrain.smart_city.signals.model import signal_models


def demand(scenario: Path) -> str:
    """Return the text of a scenario's route file."""
    return scenario.with_name("city.rou.xml").read_text(encoding="utf-8")


@pytest.mark.parametrize("kind", ["arterial", "grid", "irregular"])
def test_every_kind_has_signals_and_ways_through(kind: str, tmp_path: Path) -> None:
    """Each has stages to choose between and vehicles in order of departure."""
    config = NetworkConfig.model_validate({"kind": kind, "columns": 3, "rows": 2, "lanes": 1, "duration_s": 300})
    path = generate_scenario(config, tmp_path / kind)
    assert signal_models(read_scenario(path).read_network())
    departs = [float(text) for text in re.findall(r'<trip [^>]*depart="([\d.]+)"', demand(path))]
    assert len(departs) > 10
    assert departs == sorted(departs)


def test_a_generated_network_is_known_as_one(tmp_path: Path) -> None:
    """By the comment in its configuration, which a city's own does not have."""
    path = generate_scenario(NetworkConfig(kind="crossing", duration_s=60), tmp_path / "made")
    assert read_scenario(path).is_synthetic
    own = path.with_name("own.sumocfg")
    own.write_text(re.sub(r"<!--.*?-->", "", path.read_text(encoding="utf-8")), encoding="utf-8")
    assert not read_scenario(own).is_synthetic


def test_the_same_seed_gives_the_same_demand(tmp_path: Path) -> None:
    """And another seed another."""
    config = NetworkConfig(kind="crossing", duration_s=600)
    first, again = (generate_scenario(config, tmp_path / name) for name in ("a", "b"))
    other = generate_scenario(config.model_copy(update={"seed": 1}), tmp_path / "c")
    assert demand(first) == demand(again)
    assert demand(first) != demand(other)


def test_demand_is_the_rate_that_was_asked_for(tmp_path: Path) -> None:
    """Four approaches of two lanes for an hour, side roads at half: 2 x 2 x (400 + 200) within four deviations."""
    config = NetworkConfig(
        kind="crossing", duration_s=3600, cool_down_s=0, lane_vph=400, side_share=0.5, has_peak=False
    )
    n = demand(generate_scenario(config, tmp_path / "a")).count("<trip ")
    assert abs(n - 2400) < 4 * 2400**0.5


def test_a_cached_network_is_made_once() -> None:
    """The second call finds the files of the first; another config does not."""
    config = NetworkConfig(kind="crossing", duration_s=120)
    first = cached_scenario(config)
    before = first.stat().st_mtime_ns
    assert cached_scenario(config) == first
    assert first.stat().st_mtime_ns == before
    assert cached_scenario(config.model_copy(update={"seed": 9})) != first
