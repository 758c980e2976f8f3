"""The queue model against queues that can be worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from quatrain.smart_city.models.queues import Layout, Plan, Traffic, Weights, best_plan, try_plan

# How a real signal's changes look in the model is tested with the controllers.
HOLDS = np.array([0, 2, 5, 10, 20], dtype=np.int64)


def layout(yields: bool = False, second: int = 2) -> Layout:
    """Two lanes, a link each; stage 0 shows the first, stage 1 the second; a change takes 4 s."""
    ends = np.full((2, 2, 2), np.inf)
    starts = np.zeros((2, 2, 2))
    ends[0, 1, 0] = ends[1, 0, 1] = 0
    starts[0, 1, 1] = starts[1, 0, 0] = 4
    return Layout(
        green=np.array([[2, 1 if yields else 0], [0, second]], dtype=np.int64),
        ends=ends,
        starts=starts,
        done=np.array([[0.0, 4.0], [4.0, 0.0]]),
        shortest=np.array([[0.0, 9.0], [9.0, 0.0]]),
        yields=np.array([[False, False], [yields, False]]),
        exit_of=np.array([0, 1]),
        headway=np.array([2.0, 2.0]),
    )


def traffic(first: list[float], second: list[float], room: float = 1e6) -> Traffic:
    """Vehicles by their arrival at the two stop lines; those at zero stand already."""
    arrivals = [*first, *second]
    return Traffic(
        link=np.array([0] * len(first) + [1] * len(second), dtype=np.int64),
        arrival=np.array(arrivals, dtype=np.float64),
        stands=np.array([arrival == 0 for arrival in arrivals], dtype=np.int64),
        first=np.array([0, len(first), len(arrivals)], dtype=np.int64),
        room=np.array([room, room]),
    )


def weights(**given: float) -> Weights:
    """Return plain weights, some replaced."""
    values = {"startup": 0.0, "stop": 0.0, "horizon": 40, "drain": 0.0, "longest": 60.0, "urge": 3.0}
    return Weights(**(values | given))  # type: ignore[arg-type]


def test_a_queue_at_green_clears_one_vehicle_per_headway() -> None:
    """Five standing cars leave in the seconds 0, 2, 4, 6, 8: 4+4, 3, 3, 2, 2, 1, 1 vehicle-seconds are waited."""
    cost = try_plan(layout(), traffic([0.0] * 5, []), weights(), Plan(0, 1, -1), 1e9)
    assert cost == pytest.approx(2 * (4 + 3 + 2 + 1))


def test_moving_vehicles_at_green_cost_nothing() -> None:
    """Arrivals further apart than the headway pass without waiting or stopping."""
    cost = try_plan(layout(), traffic([3.2, 7.1, 12.4], []), weights(stop=5.0), Plan(0, 1, -1), 1e9)
    assert cost == 0


def test_a_red_costs_a_stop_and_the_time_until_green() -> None:
    """A car that comes at 1 s and a change at 10 s that takes 4: it waits 13 seconds, and one stop."""
    one = try_plan(layout(), traffic([], [1.0]), weights(stop=5.0), Plan(0, 10, 1), 1e9)
    assert one == pytest.approx(13 + 5)


def test_a_try_ends_early_once_it_costs_the_bound() -> None:
    """The cost of an abandoned try is at least the bound, and less than the whole."""
    whole = try_plan(layout(), traffic([], [0.0] * 8), weights(), Plan(0, 30, 1), 1e9)
    ended = try_plan(layout(), traffic([], [0.0] * 8), weights(), Plan(0, 30, 1), 50.0)
    assert 50 <= ended < whole


def test_a_full_exit_holds_its_queue() -> None:
    """With room for two behind the junction, two of six leave."""
    cost = try_plan(layout(), traffic([0.0] * 6, [], room=2.0), weights(), Plan(0, 1, -1), 1e9)
    held = 5 + 5 + 38 * 4
    assert cost == pytest.approx(held + 4 * (10 + 0.5 * 5 * 2))


def test_a_yielding_movement_waits_for_a_gap() -> None:
    """Cars that must give way leave only once the stream with priority has passed."""
    free = try_plan(layout(yields=True), traffic([], [0.0]), weights(), Plan(0, 1, -1), 1e9)
    stream = [float(second) for second in range(0, 20, 2)]
    held = try_plan(layout(yields=True), traffic(stream, [0.0]), weights(), Plan(0, 1, -1), 1e9)
    assert free == 0
    assert held >= 18


def test_an_empty_stage_is_left_for_a_queue() -> None:
    """Nobody at the shown stage, six at the other: change at once."""
    stage, hold, _ = best_plan(layout(), traffic([], [0.0] * 6), weights(), 0, HOLDS)
    assert (stage, hold) == (1, 0)


def test_a_platoon_is_let_through_before_the_change() -> None:
    """Ten cars about to pass, one waiting at the other: it waits for them."""
    stage, hold, _ = best_plan(
        layout(), traffic([0.0] * 4 + [2.0 * i for i in range(4, 9)], [0.0]), weights(), 0, HOLDS
    )
    assert stage == 0 or hold >= 5


def test_the_best_plan_is_the_cheapest_of_all_tries() -> None:
    """Against trying every plan without bounds."""
    rng = np.random.default_rng(2)
    for _ in range(20):
        first, second = (sorted(rng.uniform(0, 30, rng.integers(0, 12)).tolist()) for _ in range(2))
        cars = traffic(first, second)
        _, _, cost = best_plan(layout(), cars, weights(stop=4.0), 0, HOLDS)
        tries = [try_plan(layout(), cars, weights(stop=4.0), Plan(0, int(hold), 1), 1e9) for hold in HOLDS]
        stay = try_plan(layout(), cars, weights(stop=4.0), Plan(0, 1, -1), 1e9)
        assert cost == pytest.approx(min([stay, *tries]))
