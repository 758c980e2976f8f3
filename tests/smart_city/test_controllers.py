"""What controllers do where the right answer is plain, and what they fall back to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from quatrain.smart_city.controllers.clock import ByTheClock
from quatrain.smart_city.controllers.demand import DemandCompetition
from quatrain.smart_city.controllers.messages import Coming, Messages
from quatrain.smart_city.controllers.native import native_plans
from quatrain.smart_city.controllers.pressure import MaxPressure
from quatrain.smart_city.controllers.rolling import RollingOptimisation, make_rolling
from quatrain.smart_city.controllers.settings import ControlSettings
from quatrain.smart_city.controllers.sotl import SelfOrganising
from quatrain.smart_city.data.scenario import read_scenario
from quatrain.smart_city.features import Seen
from quatrain.smart_city.retime.webster import stage_rows
from quatrain.smart_city.signals.model import SignalModel
from quatrain.smart_city.signals.shield import Shield
from quatrain.smart_city.simulation.pool import Pool
from quatrain.smart_city.simulation.result import Job


class Street:
    """Detections as a test sets them: vehicles on the way to one signal, counts on lanes, room behind it."""

    def __init__(self, seen: list[Seen], *, room_m: float = float("inf")) -> None:
        self.seen, self.room_m = seen, room_m
        self.arrivals: dict[str, dict[int, int]] = {}

    def of(self, tls: str, now: float) -> list[Seen]:
        """Return the vehicles, whoever asks."""
        self.arrivals.setdefault(tls, {})
        del now
        return self.seen

    def then(self, vehicle: str) -> tuple[str, int, float] | None:
        """Return the next signal: 280 m further, its link 3."""
        del vehicle
        return ("next", 3, 280.0)

    def on_lane(self, lane: str) -> int:
        """Return how many vehicles of the test are on a lane."""
        return sum(each.vehicle.startswith(lane) for each in self.seen)

    def free_space_m(self, lane: str) -> float:
        """Return the same room on every lane."""
        del lane
        return self.room_m


def queue_at(model: SignalModel, stage: int, n: int) -> list[Seen]:
    """Return standing vehicles at a link straight on that only this stage of all shows."""
    others = {link for other in model.stages if other.index != stage for link in other.green}
    link = min(i for i in model.stages[stage].green - others if model.connections[i][0].direction == "s")
    lane = model.connections[link][0].from_lane
    return [Seen(f"{lane}.{i}", link, 2.0 + 7.5 * i, 0.0) for i in range(n)]


RULES = [DemandCompetition, MaxPressure, RollingOptimisation]


def made(rule: type, model: SignalModel, street: Street) -> DemandCompetition | MaxPressure | RollingOptimisation:
    """Return a controller that looks at the street of a test."""
    settings = ControlSettings()
    if rule is RollingOptimisation:
        street.arrivals[model.tls] = {}
        return make_rolling({model.tls: model}, street, settings, has_messages=False)[model.tls]  # type: ignore[arg-type]
    return rule(model, street, settings)  # type: ignore[no-any-return]


@pytest.mark.parametrize("rule", RULES)
def test_a_queue_at_another_stage_gets_it(rule: type, junction_model: SignalModel) -> None:
    """Nobody at the shown stage, eight at the third: every rule changes to it."""
    street = Street(queue_at(junction_model, 2, 8))
    shield = Shield(junction_model, stage=0, now=0.0)
    assert made(rule, junction_model, street).choose(shield, 30.0) == 2


@pytest.mark.parametrize("rule", RULES)
def test_an_empty_street_changes_nothing(rule: type, junction_model: SignalModel) -> None:
    """No change costs anyone anything."""
    shield = Shield(junction_model, stage=1, now=0.0)
    assert made(rule, junction_model, Street([])).choose(shield, 30.0) == 1


@pytest.mark.parametrize("rule", [DemandCompetition, RollingOptimisation])
def test_a_queue_that_flows_is_not_cut_for_one_car(rule: type, junction_model: SignalModel) -> None:
    """Eight leave under green; one waits at the cross street."""
    street = Street(queue_at(junction_model, 0, 8) + queue_at(junction_model, 2, 1))
    shield = Shield(junction_model, stage=0, now=0.0)
    assert made(rule, junction_model, street).choose(shield, 30.0) == 0


def test_no_green_for_a_queue_that_cannot_leave(junction_model: SignalModel) -> None:
    """With the ways out full, the demand rule stays where it is."""
    street = Street(queue_at(junction_model, 2, 8), room_m=3.0)
    shield = Shield(junction_model, stage=0, now=0.0)
    assert made(DemandCompetition, junction_model, street).choose(shield, 30.0) == 0


def test_self_organising_waits_for_its_threshold(junction_model: SignalModel) -> None:
    """Four vehicles for twelve seconds are under fifty vehicle-seconds, for thirteen over it."""
    street = Street(queue_at(junction_model, 2, 4))
    rule = SelfOrganising(junction_model, street, ControlSettings())  # type: ignore[arg-type]
    shield = Shield(junction_model, stage=0, now=0.0)
    wishes = [rule.choose(shield, float(second)) for second in range(20)]
    assert wishes[:12] == [0] * 12
    assert wishes[12] == 2


def test_a_signal_tells_who_leaves_and_when_they_are_there(junction_model: SignalModel) -> None:
    """The first of a queue leaves now and is 280 m further at the speed limit's time; the full exit tells of nobody."""
    street = Street(queue_at(junction_model, 0, 3))
    street.arrivals[junction_model.tls] = {}
    for room_m, told in ((float("inf"), 3), (15.5, 2)):
        street.room_m = room_m
        rule = make_rolling({junction_model.tls: junction_model}, street, ControlSettings(), has_messages=True)  # type: ignore[arg-type]
        messages = rule[junction_model.tls]._messages
        assert messages is not None
        rule[junction_model.tls].choose(Shield(junction_model, stage=0, now=0.0), 100.0)
        coming = messages.read("next", 100.0, set())
        assert len(coming) == told
        assert coming[0].link == 3
        assert coming[0].at_s == pytest.approx(100 + 280 / 13.89, abs=1.5)
        assert coming[1].at_s - coming[0].at_s == pytest.approx(2.0)


def test_messages_are_dropped_once_seen_or_overdue() -> None:
    """The newest word about a vehicle counts."""
    messages = Messages()
    messages.send("a", "x", Coming(1, 50.0))
    messages.send("a", "x", Coming(1, 60.0))
    messages.send("a", "y", Coming(2, 40.0))
    messages.send("a", "z", Coming(2, 70.0))
    assert messages.read("a", 45.0, {"z"}) == [Coming(1, 60.0)]
    assert messages.read("b", 45.0, set()) == []


def test_the_clock_shows_the_city_s_greens_in_turn(junction: Path, junction_model: SignalModel) -> None:
    """Through the shield, each stage lasts as long as in the programme, within the rows between."""
    (programmes,) = read_scenario(junction).read_network().programmes.values()
    clock, shield = ByTheClock(programmes), Shield(junction_model, stage=0, now=0.0)
    shown = []
    for second in range(180):
        wish = clock.choose(shield, float(second)) if shield.is_ready(float(second)) else shield.stage
        shown.append(shield.step(float(second), wish))
    for row in stage_rows(programmes[0]):
        phase = programmes[0].phases[row]
        assert abs(shown.count(phase.state) / 2 - phase.duration_s) <= 4


def test_native_programmes_keep_every_row_between_stages(junction: Path) -> None:
    """Only stage rows may be stretched; yellow and clearance stay as they are."""
    network = read_scenario(junction).read_network()
    (plan,) = native_plans(network, "actuated")
    ((programme,),) = network.programmes.values()
    rows = set(stage_rows(programme))
    for number, (row, phase) in enumerate(zip(plan.rows, programme.phases, strict=True)):
        assert row.state == phase.state
        assert (row.min_s is None) == (number not in rows)
        assert number in rows or row.duration_s == phase.duration_s


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    """Return one worker."""
    with Pool(1) as found:
        yield found


def test_with_all_detectors_failed_the_city_s_clock_goes_on(junction: Path, pool: Pool) -> None:
    """Nobody is stuck: about the city's own delay, and no limit broken."""
    scenario = read_scenario(junction)
    job = Job(scenario=scenario, controller="fixed", seed=1, is_checked=True)
    blind = ControlSettings(missed_share=1.0)
    own, failed = pool.run([job, replace(job, controller="rolling", settings=blind)])
    assert failed.metrics["arrived"] == failed.metrics["vehicles"]
    assert failed.metrics["delay_s"] < 1.6 * own.metrics["delay_s"]
    assert not failed.violations


def test_detectors_that_see_are_believed(junction: Path, pool: Pool) -> None:
    """A rule that reads lanes only is not taken for blind: it does otherwise than with failed detectors."""
    job = Job(scenario=read_scenario(junction), controller="max-pressure", seed=1)
    sees, failed = pool.run([job, replace(job, settings=ControlSettings(missed_share=1.0))])
    assert sees.metrics["delay_s"] < failed.metrics["delay_s"]


def test_the_model_knows_each_change_as_the_shield_makes_it(crossing_model: SignalModel) -> None:
    """When each link ends and starts after a change begins, for every pair of stages, walkers included."""
    street = Street([])
    layout = made(RollingOptimisation, crossing_model, street)._layout  # type: ignore[union-attr]
    for a in crossing_model.stages:
        for b in crossing_model.stages:
            if a.index == b.index:
                continue
            shield = Shield(crossing_model, stage=a.index, now=0.0)
            states = [shield.step(float(t), a.index if t < 20 else b.index) for t in range(60)]
            assert shield.stage == b.index
            for link in b.green - a.green:
                start = next(t for t, state in enumerate(states) if state[link] in "Gg") - 20
                assert layout.starts[a.index, b.index, link] == start
            for link in a.green - b.green:
                end = next(t for t, state in enumerate(states) if state[link] not in "Gg") - 20
                assert layout.ends[a.index, b.index, link] == end
