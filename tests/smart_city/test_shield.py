"""Whatever is asked of the shield, the checker, which shares no code with it, finds nothing broken."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quatrain.core.errors import BadDataError
from quatrain.smart_city.signals.checker import Checker, check_log, count_by_kind
from quatrain.smart_city.signals.model import SignalModel
from quatrain.smart_city.signals.shield import Shield

N_DECISIONS = 20_000


def random_wishes(model: SignalModel, seed: int) -> Iterator[int]:
    """Ask for any stage every second."""
    rng = np.random.default_rng(seed)
    while True:
        yield int(rng.integers(len(model.stages)))


def restless_wishes(model: SignalModel, seed: int) -> Iterator[int]:
    """Ask for the next stage every second, then the one before, so that changes are asked for within changes."""
    while True:
        for step in range(1000):
            yield (seed + step) % len(model.stages)
        for step in range(1000):
            yield (seed - step) % len(model.stages)


def stubborn_wishes(model: SignalModel, seed: int) -> Iterator[int]:
    """Ask for one stage for ever, so that the others would starve."""
    while True:
        yield seed % len(model.stages)


def played(model: SignalModel, wishes: Iterator[int], n: int, stage: int = 0) -> Checker:
    """Return the checker that read what the shield made of `n` wishes."""
    shield, checker = Shield(model, stage=stage, now=0.0), Checker(model)
    for second in range(n):
        checker.read(float(second), shield.step(float(second), next(wishes)))
    checker.close(float(n))
    return checker


@pytest.mark.parametrize("wishes", [random_wishes, restless_wishes, stubborn_wishes])
@pytest.mark.parametrize("seed", [0, 1])
def test_no_wish_breaks_a_limit_where_people_walk(wishes, seed, crossing_model: SignalModel) -> None:
    """Conflicts, yellow, clearance, minimum green and maximum red hold for walkers and cars."""
    checker = played(crossing_model, wishes(crossing_model, seed), N_DECISIONS)
    assert checker.n_states == N_DECISIONS
    assert count_by_kind(checker.violations) == {}


@settings(max_examples=25)
@given(
    intergreen=st.floats(1, 9),
    least=st.floats(1, 20),
    wishes=st.lists(st.integers(0, 3), min_size=200, max_size=200),
    stage=st.integers(0, 3),
)
def test_any_intergreens_hold_under_any_wishes(
    junction_model: SignalModel, intergreen: float, least: float, wishes: list[int], stage: int
) -> None:
    """Seconds that are not whole are kept as the next whole ones, never as fewer."""
    n = junction_model.n_links
    model = replace(
        junction_model,
        yellow_s=np.full(n, min(3.0, intergreen)),
        intergreen_s=np.full((n, n), intergreen),
        min_green_s=np.full(n, least),
        max_red_s=300.0,
    )
    assert played(model, iter(wishes), len(wishes), stage).violations == []


def test_a_starving_stage_is_served_in_time(junction_model: SignalModel) -> None:
    """A controller that never leaves its stage still lets everyone through within the maximum red."""
    shield = Shield(junction_model, stage=0, now=0.0)
    shown = [shield.step(float(second), 0) for second in range(600)]
    longest = 0
    for link in junction_model.served:
        reds = "".join("g" if state[link] in "Gg" else "r" for state in shown).split("g")
        longest = max(longest, *(len(red) for red in reds))
    assert 60 < longest <= junction_model.max_red_s


def test_a_link_that_stays_green_is_not_interrupted(junction_model: SignalModel) -> None:
    """A stage with a part of the shown links takes the others away and leaves those alone."""
    first, second = junction_model.stages[0], junction_model.stages[1]
    both = first.green & second.green
    assert both
    shield = Shield(junction_model, stage=0, now=0.0)
    states = [shield.step(float(t), 0 if t < 20 else 1) for t in range(40)]
    assert all(state[link] in "Gg" for state in states for link in both)
    assert shield.stage == 1


def test_each_link_starts_once_its_own_conflicts_are_clear(crossing_model: SignalModel) -> None:
    """Cars that cross no walker start after the yellow; those that do wait for the walkers to clear as well."""
    shield = Shield(crossing_model, stage=0, now=0.0)
    before, after = crossing_model.stages[0], crossing_model.stages[2]
    walkers = [link for link in before.green - after.green if crossing_model.is_crossing[link]]
    states = [shield.step(float(t), 0 if t < 30 else 2) for t in range(60)]
    waited = {"walkers": set[int](), "cars": set[int]()}
    for link in after.green - before.green:
        start = next(t for t, state in enumerate(states) if state[link] in "Gg")
        group = "walkers" if any(crossing_model.conflicts[i, link] for i in walkers) else "cars"
        waited[group].add(start - 30)
    assert waited["cars"] <= {0, 3}
    assert min(waited["walkers"]) >= 8


def test_a_stage_that_does_not_exist_is_refused(junction_model: SignalModel) -> None:
    """The message says which stages there are."""
    with pytest.raises(ValueError, match="has stages 0 to 3, got 9"):
        Shield(junction_model, stage=0, now=0.0).step(0.0, 9)


def lamps(model: SignalModel, **shown: str) -> str:
    """Return a state that is red but for some links."""
    state = ["r"] * model.n_links
    for name, char in shown.items():
        state[int(name.removeprefix("link"))] = char
    return "".join(state)


def crossing_pair(model: SignalModel) -> tuple[int, int]:
    """Return two links for cars that conflict."""
    i, j = np.argwhere(model.conflicts & ~model.is_crossing[:, None] & ~model.is_crossing[None, :])[0]
    return int(i), int(j)


def test_the_checker_finds_each_kind_of_fault(junction_model: SignalModel) -> None:
    """Logs with one fault each are read as that fault, so that silence means something."""
    i, j = crossing_pair(junction_model)
    dark, first, second = (lamps(junction_model, **shown) for shown in ({}, {f"link{i}": "G"}, {f"link{j}": "G"}))
    yellow, both = (
        lamps(junction_model, **{f"link{i}": "y"}),
        lamps(junction_model, **{f"link{i}": "G", f"link{j}": "G"}),
    )
    logs = {
        "conflicting greens": [(0, dark), (10, first), (30, both)],
        "short green": [(0, dark), (10, first), (12, yellow), (15, dark)],
        "no yellow": [(0, dark), (10, first), (30, dark)],
        "short yellow": [(0, dark), (10, first), (30, yellow), (31, dark)],
        "short intergreen": [(0, dark), (10, first), (30, yellow), (32, second)],
        "long red": [(0, dark), (10, first), (30, yellow), (33, dark), (900, first)],
    }
    for kind, log in logs.items():
        checker = Checker(junction_model)
        for time_s, state in log:
            checker.read(float(time_s), state)
        assert kind in count_by_kind(checker.violations), kind


def test_a_clean_log_has_no_violation(junction_model: SignalModel, tmp_path: Path) -> None:
    """SUMO's own log format is read; each state line counts."""
    i, j = crossing_pair(junction_model)
    rows = [(0, {}), (10, {f"link{i}": "G"}), (30, {f"link{i}": "y"}), (33, {f"link{j}": "G"})]
    lines = [f'<tlsState time="{t}" id="{junction_model.tls}" state="{lamps(junction_model, **s)}"/>' for t, s in rows]
    log = tmp_path / "log.xml"
    log.write_text(f"<tlsStates>{''.join(lines)}</tlsStates>")
    assert check_log(log, {junction_model.tls: junction_model}) == (4, [])
    log.write_text("<tlsStates><tlsState")
    with pytest.raises(BadDataError, match="not a log of signal states"):
        check_log(log, {junction_model.tls: junction_model})
