"""The contract's table: the shipped row first, chosen on other seeds, and nothing but JSON on stdout."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from quatrain.core.config import load
from quatrain.core.errors import UsageError
from quatrain.smart_city.controllers.registry import check_names
from quatrain.smart_city.data.scenario import Scenario
from quatrain.smart_city.evaluate import EvaluateConfig, parse_intergreen
from quatrain.smart_city.gate import gate_seeds, judge
from quatrain.smart_city.simulation.result import Result


def test_the_command_prints_one_json_object_and_nothing_else(junction: Path) -> None:
    """Rows as the contract has them; SUMO's and the libraries' own words stay away."""
    command = [sys.executable, "-m", "quatrain.core.cli.main", "smart-city", "evaluate", "--json", "--workers", "1"]
    command += ["--scenario", str(junction), "--controllers", "fixed,demand,quatrain", "--seeds", "1,2"]
    command += ["--gate-seeds", "2"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    document = json.loads(done.stdout)
    assert [row["name"] for row in document["rows"]] == ["quatrain", "fixed", "demand"]
    ours, own, _ = document["rows"]
    assert {"delay_s", "trip_s", "wait_s", "undeparted"} <= set(ours["metrics"]) & set(ours["intervals"])
    assert ours["choice"] in {"rolling", "demand", "actuated", "fixed"}
    assert ours["delay_vs_fixed_s"]["difference"] == pytest.approx(
        ours["metrics"]["delay_s"] - own["metrics"]["delay_s"]
    )
    assert ours["metrics"]["delay_s"] <= own["metrics"]["delay_s"]
    assert not {1, 2} & set(ours["gate_seeds"])
    assert document["n"] > 0


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"seeds": ("1", "1")}, "none twice"),
        ({"controllers": ()}, "expected at least one"),
        ({"intergreen": 0.2}, "greater than or equal to 1"),
        ({"n_gate_seeds": 1}, "greater than or equal to 2"),
    ],
)
def test_wrong_flags_are_usage_errors(junction: Path, flags: dict[str, object], said: str) -> None:
    """Said before any simulation."""
    with pytest.raises(UsageError, match=said):
        load(EvaluateConfig, section="smart_city.evaluate", flags={"scenario": junction, **flags})


def test_a_misspelt_controller_is_corrected() -> None:
    """The message names the one that was meant."""
    with pytest.raises(UsageError, match="did you mean 'fixed'"):
        check_names(["actuated", "fixd"])


def test_intergreens_are_the_city_s_or_seconds() -> None:
    """The two forms of the flag."""
    assert parse_intergreen("incumbent") == "incumbent"
    assert parse_intergreen("3") == 3.0
    with pytest.raises(UsageError, match="got 'x'"):
        parse_intergreen("x")


def test_gate_seeds_are_never_those_measured_on() -> None:
    """Also where the user's seeds are the gate's usual ones."""
    assert gate_seeds([1, 2, 3], 3) == (1001, 1002, 1003)
    assert gate_seeds([1001, 1003], 3) == (1002, 1004, 1005)


def runs(delays: list[float], walkers: float | None = None) -> list[Result]:
    """Return results of one controller, a seed each."""
    waits = {} if walkers is None else {"ped_wait_s": walkers}
    return [
        Result(
            scenario="x",
            controller="x",
            seed=seed,
            metrics={"delay_s": delay, **waits},
            controlled=1,
            cpu_s=1.0,
            simulated_s=1.0,
        )
        for seed, delay in enumerate(delays)
    ]


def test_the_gate_passes_only_what_is_bounded_as_not_worse() -> None:
    """Better on average is not enough where seeds differ as much as the gain."""
    own = runs([30.0, 40.0, 35.0])
    assert judge("a", runs([25.0, 34.5, 30.5]), own).passes
    unsure = judge("b", runs([20.0, 45.0, 30.0]), own)
    assert unsure.difference_s < 0
    assert not unsure.passes
    assert "may cost up to" in unsure.reason
    assert judge("c", own, own).passes


def test_the_gate_refuses_what_makes_walkers_wait() -> None:
    """Cars' gain is not paid by those on foot."""
    verdict = judge("a", runs([20.0, 30.0, 25.0], walkers=60.0), runs([30.0, 40.0, 35.0], walkers=20.0))
    assert not verdict.passes
    assert "walkers would wait 60 s in place of 20 s" in verdict.reason


def test_a_scenario_without_an_end_has_a_last_second() -> None:
    """A jam that never clears does not run for ever."""
    scenario = Scenario(name="x", network=Path("x"), routes=(), begin_s=100.0)
    assert scenario.last_s == 100 + 4 * 3600
