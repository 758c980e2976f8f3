"""One simulation: measured as SUMO itself measures it, the same through both bindings, and safe throughout."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from quatrain.core.errors import BadDataError, UsageError
from quatrain.smart_city.controllers.registry import SHIELDED
from quatrain.smart_city.data.markup import elements
from quatrain.smart_city.data.scenario import read_scenario, scenario_from_parts
from quatrain.smart_city.simulation.pool import Pool
from quatrain.smart_city.simulation.result import Job
from quatrain.smart_city.simulation.sumo import run_program


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    """Return one worker that all tests of this file share."""
    with Pool(1) as found:
        yield found


def test_delay_is_what_sumo_s_own_statistics_say(junction: Path, pool: Pool, tmp_path: Path) -> None:
    """Everyone arrives within the five minutes, so SUMO's means over arrived trips are ours over all."""
    job = Job(scenario=read_scenario(junction), controller="fixed", seed=7)
    (result,) = pool.run([job])
    log = tmp_path / "statistics.xml"
    run_program(
        "sumo", [*job.scenario.flags(), "--seed", "7", "--statistic-output", str(log), "--duration-log.statistics"]
    )
    trips = next(element for _, element in elements(log) if element.tag == "vehicleTripStatistics")
    assert result.metrics["vehicles"] == result.metrics["arrived"] == float(trips.attrib["count"])
    expected = float(trips.attrib["timeLoss"]) + float(trips.attrib["departDelay"])
    assert result.metrics["delay_s"] == pytest.approx(expected, abs=0.011)


def test_both_bindings_give_the_same_run(junction: Path, pool: Pool) -> None:
    """Traci is the fallback: same seed, same second-by-second control, same delay."""
    job = Job(scenario=replace(read_scenario(junction), end_s=120.0), controller="demand", seed=2)
    first, second = pool.run([job, replace(job, binding="traci")])
    assert first.metrics == second.metrics


def test_every_controller_keeps_every_limit_where_people_walk(crossing: Path, pool: Pool) -> None:
    """The checker reads what the simulator shows, each second, under each controller."""
    base = Job(scenario=read_scenario(crossing), controller="", seed=1, is_checked=True)
    results = pool.run([replace(base, controller=name) for name in SHIELDED])
    assert [result.n_states for result in results] == [240] * len(SHIELDED)
    assert {result.controller: dict(result.violations) for result in results} == {name: {} for name in SHIELDED}
    assert all(result.metrics["ped_wait_s"] >= 0 for result in results)


def test_a_rerun_gives_the_same_numbers(junction: Path, pool: Pool) -> None:
    """Seeds decide everything."""
    job = Job(scenario=replace(read_scenario(junction), end_s=150.0), controller="rolling", seed=3)
    first, second, other = pool.run([job, job, replace(job, seed=4)])
    assert first.metrics == second.metrics
    assert first.metrics != other.metrics


def test_a_network_and_routes_run_without_a_configuration(junction: Path, pool: Pool) -> None:
    """With no end given, the run ends when everyone has arrived."""
    parts = scenario_from_parts(
        network=junction.with_name("city.net.xml"), routes=(junction.with_name("city.rou.xml"),)
    )
    (result,) = pool.run([Job(scenario=parts, controller="fixed", seed=1)])
    assert result.metrics["arrived"] == result.metrics["vehicles"] > 0
    assert result.simulated_s < 400


def test_what_sumo_cannot_drive_is_an_error_in_its_own_words(junction: Path, tmp_path: Path, pool: Pool) -> None:
    """A trip from a road that does not exist."""
    routes = tmp_path / "wrong.rou.xml"
    routes.write_text('<routes><trip id="a" depart="0" from="nowhere" to="elsewhere"/></routes>')
    scenario = replace(read_scenario(junction), routes=(routes,))
    with pytest.raises(BadDataError, match="nowhere"):
        pool.run([Job(scenario=scenario, controller="fixed", seed=1)])


def test_an_unknown_controller_is_named(junction: Path, pool: Pool) -> None:
    """The message lists those there are."""
    with pytest.raises(UsageError, match="not a controller that runs through the shield"):
        pool.run([Job(scenario=read_scenario(junction), controller="magic", seed=1)])
