"""What is read of a network: stages, conflicts and the city's own times; what cannot be controlled is said."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from quatrain.core.errors import BadDataError, UserError
from quatrain.smart_city.data.network import Phase, Programme, read_network
from quatrain.smart_city.data.scenario import read_scenario
from quatrain.smart_city.signals.intergreen import observe
from quatrain.smart_city.signals.model import SignalModel, signal_models


def edited(scenario: Path, folder: Path, *changes: tuple[str, str]) -> Path:
    """Return a copy of a scenario whose network has `changes` made."""
    for file in scenario.parent.iterdir():
        text = file.read_text(encoding="utf-8")
        if file.name.endswith(".net.xml"):
            for old, new in changes:
                assert old in text
                text = text.replace(old, new)
        (folder / file.name).write_text(text, encoding="utf-8")
    return folder / scenario.name


def test_stages_are_the_city_s_own_without_changes_between_them(crossing_model: SignalModel) -> None:
    """Four stages; rows with yellow, and rows in which only walkers clear, are not stages."""
    assert [stage.index for stage in crossing_model.stages] == [0, 1, 2, 3]
    assert all("y" not in stage.state for stage in crossing_model.stages)
    assert crossing_model.is_crossing.sum() == 4


def test_conflicts_are_symmetric_and_never_shown_by_the_city(crossing_model: SignalModel) -> None:
    """No stage of the programme holds a conflicting pair."""
    conflicts = crossing_model.conflicts
    assert conflicts.any()
    assert np.array_equal(conflicts, conflicts.T)
    for stage in crossing_model.stages:
        green = sorted(stage.green)
        assert not conflicts[np.ix_(green, green)].any()


def test_intergreens_are_the_shortest_that_the_programme_shows() -> None:
    """Yellow 3 s and all-red 2 s make 5 s; walkers clear for 4 s more; what starts a stage later is no intergreen."""
    rows = [("GrGr", 20), ("Grrr", 4), ("yrrr", 3), ("rrrr", 2), ("rGrr", 15), ("ryrr", 3), ("rrrG", 9), ("rrry", 4)]
    phases = tuple(Phase(state=state, duration_s=seconds) for state, seconds in rows)
    programme = Programme(tls="x", name="0", kind="static", offset_s=0, phases=phases)
    conflicts = ~np.eye(4, dtype=bool)
    conflicts[0, 2] = conflicts[2, 0] = False
    found = observe([programme], conflicts)
    assert found.gap[0, 1] == 5
    assert found.gap[2, 1] == 9
    assert found.gap[1, 3] == 3
    assert found.gap[3, 0] == 4
    assert np.isinf(found.gap[0, 3])
    assert found.yellow[[0, 1, 3]].tolist() == [3, 3, 4]
    assert found.min_green.tolist() == [5, 5, 5, 5]


def test_given_seconds_replace_the_city_s_for_cars(junction: Path) -> None:
    """--intergreen 4 gives every pair of car links four seconds, all of them yellow."""
    network = read_scenario(junction).read_network()
    (model,) = signal_models(network, intergreen=4.0).values()
    assert set(model.yellow_s.tolist()) == {4.0}
    assert set(model.intergreen_s[model.conflicts].tolist()) == {4.0}


def test_crossing_greens_with_priority_are_refused(junction: Path, tmp_path: Path) -> None:
    """A programme that lets crossing ways go at once is an error, with the links named."""
    network = junction.with_name("city.net.xml").read_text(encoding="utf-8")
    first = network.split("<phase duration")[1].split('state="')[1].split('"')[0]
    path = edited(junction, tmp_path, (f'state="{first}"', f'state="{"G" * len(first)}"'))
    with pytest.raises(BadDataError, match="green with priority at once"):
        signal_models(read_scenario(path).read_network())


def test_a_network_without_signals_is_said_to_have_none(junction: Path, tmp_path: Path) -> None:
    """The error names the file and what was expected in it."""
    network = junction.with_name("city.net.xml").read_text(encoding="utf-8")
    start, end = network.index("<tlLogic"), network.rindex("</tlLogic>") + len("</tlLogic>")
    path = edited(junction, tmp_path, (network[start:end], ""))
    with pytest.raises(UserError, match="no traffic signals"):
        signal_models(read_scenario(path).read_network())


def test_broken_xml_is_an_error_that_names_the_file(junction: Path, tmp_path: Path) -> None:
    """A network that ends in the middle is not read as a smaller network."""
    path = edited(junction, tmp_path, ("</net>", ""))
    with pytest.raises(BadDataError, match=r"city\.net\.xml is not readable XML"):
        read_scenario(path)
    (tmp_path / "text.net.xml").write_text("<net/>")
    with pytest.raises(BadDataError, match="has no lanes"):
        read_network(tmp_path / "text.net.xml")


def test_a_missing_route_file_is_named(junction: Path, tmp_path: Path) -> None:
    """The path that the scenario names is in the message."""
    path = edited(junction, tmp_path)
    (tmp_path / "city.rou.xml").unlink()
    with pytest.raises(UserError, match=r"no file .*city\.rou\.xml, which the scenario names"):
        read_scenario(path)


def test_states_of_another_length_are_refused(junction: Path, tmp_path: Path) -> None:
    """A programme for another network's links cannot be read as this one's."""
    network = junction.with_name("city.net.xml").read_text(encoding="utf-8")
    first = network.split("<phase duration")[1].split('state="')[1].split('"')[0]
    path = edited(junction, tmp_path, (f'state="{first}"', f'state="{first}G"'))
    with pytest.raises(BadDataError, match="export the network and its programmes together"):
        signal_models(read_scenario(path).read_network())


def test_without_a_right_of_way_table_only_what_the_city_combines_is_safe(junction: Path, tmp_path: Path) -> None:
    """A network without internal lanes: every pair that no stage shows together conflicts."""
    network = junction.with_name("city.net.xml").read_text(encoding="utf-8")
    path = edited(junction, tmp_path, *{(text, "") for text in re.findall(r' via="[^"]*"', network)})
    (model,) = signal_models(read_scenario(path).read_network()).values()
    together = np.zeros_like(model.conflicts)
    for stage in model.stages:
        together[np.ix_(sorted(stage.green), sorted(stage.green))] = True
    assert np.array_equal(model.conflicts, ~together & ~np.eye(model.n_links, dtype=bool))
