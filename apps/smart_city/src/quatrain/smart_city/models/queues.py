"""A queue model of one signal: vehicles that wait in lanes, tried under many plans in microseconds.

Each lane is a first-in-first-out queue of vehicles with an earliest time at the stop line. A
vehicle leaves when its link is green, the one before it left `headway` ago, it finds a gap where
it must yield, and there is room behind the junction. What counts is the time that vehicles stand
behind the moment at which they could have crossed, plus a charge for every one that is stopped.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from quatrain.smart_city.models.compiled import compiled

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

# A vehicle that must yield looks this far ahead for those with priority, and waits this long behind one.
_GAP_AHEAD_S = 3.5
_GAP_BEHIND_S = 1.5
# The rule that a try follows after its first change: it stays while someone comes within this time.
_COMING_S = 2.5
# Cost of a vehicle still waiting at the end of a try: what it will wait at least, by its place in the queue.
_LEFT_OVER_S = 10.0
_NEVER = 1e9
# What a link shows: codes of Layout.green.
_RED, _YIELDING, _FIRST, _AFTER_STOP = 0, 1, 2, 3
# Drivers use about the first second of yellow.
_YELLOW_USED_S = 1.0
# A vehicle that could cross within this time of its arrival is not stopped.
_UNNOTICED_S = 0.5
# Vehicles by which another queue must be ahead, whatever `urge` says.
_AHEAD = 4.0


class Layout(NamedTuple):
    """What does not change at a signal: S stages, L links, K lanes, E exits."""

    # 0 red, 1 green that yields, 2 green with priority, 3 may pass after stopping. (S, L)
    green: Ints
    # Seconds after the start of a change from one stage to another at which a link ends, starts. (S, S, L)
    ends: Floats
    starts: Floats
    # (S, S)
    done: Floats
    # Shortest time that a stage is shown after a change to it. (S, S)
    shortest: Floats
    # (L, L): whether the first yields to the second.
    yields: NDArray[np.bool_]
    # Exit that each link leads to. (L,)
    exit_of: Ints
    # Seconds between vehicles, by lane: less where a link leaves several lanes. (K,)
    headway: Floats


class Traffic(NamedTuple):
    """Who is on the way now: N vehicles, sorted by lane and then by place."""

    link: Ints
    # Earliest time at the stop line, in seconds from now; a lane's first to last.
    arrival: Floats
    # 1 for a vehicle that already stands: stopping it costs nothing more.
    stands: Ints
    # Where each lane's vehicles start. (K + 1,)
    first: Ints
    # Vehicles that each exit still takes. (E,)
    room: Floats


class Weights(NamedTuple):
    """What the model is told about drivers, and how it looks ahead."""

    startup: float
    stop: float
    horizon: int
    # Vehicles per second that a full exit frees.
    drain: float
    # The rule after the first change: longest green, and how much more another queue must hold.
    longest: float
    urge: float


class Plan(NamedTuple):
    """Hold the stage for so many seconds, then change to `wish`; negative: as the rule decides."""

    stage: int
    hold: int
    wish: int


class _Now(NamedTuple):
    stage: int
    t: int
    # Since the last change began.
    shown: int


class _State(NamedTuple):
    """A try under way, by lane: the next to leave, the next to arrive, when the stop line is free again."""

    head: Ints
    tail: Ints
    free_at: Floats
    is_held: Ints
    # By exit.
    room: Floats
    # By link: when the last one left, what is shown, whether someone comes.
    last: Floats
    lamp: Ints
    busy: Ints


@compiled
def try_plan(layout: Layout, traffic: Traffic, weights: Weights, plan: Plan, bound: float) -> float:
    """Return what a plan costs within the horizon, in vehicle-seconds.

    After the plan's change the rule goes on: stay while the stage serves someone, else the longest
    queue. A try that already costs `bound` ends early.
    """
    state = _start(layout, traffic, plan.stage)
    before, stage, changed_at, is_changing, is_pending = plan.stage, plan.stage, 0, False, True
    stay_until = float(plan.hold)
    cost, queue = 0.0, 0.0
    for t in range(weights.horizon):
        if is_changing and t - changed_at >= layout.done[before, stage]:
            is_changing = False
            stay_until = changed_at + layout.shortest[before, stage]
        if not is_changing and t >= stay_until:
            target = stage
            if is_pending and plan.wish >= 0:
                target = plan.wish
            else:
                target = _rule(layout, traffic, weights, state, _Now(stage, t, t - changed_at))
            is_pending = False
            if target != stage:
                before, stage, changed_at, is_changing = stage, target, t, True
        _show(layout, state.lamp, (before, stage), t - changed_at if is_changing else -1)
        arrived, stopped = _arrive(traffic, state, t)
        queue += arrived - _discharge(layout, traffic, weights, state, t)
        cost += queue + weights.stop * stopped
        if cost >= bound:
            return cost
        state.room[:] += weights.drain
    return cost + _left_over(layout, state)


@compiled
def _start(layout: Layout, traffic: Traffic, stage: int) -> _State:
    n_links, n_lanes = layout.green.shape[1], len(traffic.first) - 1
    head = traffic.first[:-1].copy()
    is_held = np.zeros(n_lanes, np.int64)
    for lane in range(n_lanes):
        i = head[lane]
        if i < traffic.first[lane + 1] and traffic.stands[i] == 1 and layout.green[stage, traffic.link[i]] == _RED:
            is_held[lane] = 1
    return _State(
        head,
        head.copy(),
        np.zeros(n_lanes),
        is_held,
        traffic.room.copy(),
        np.full(n_links, -_NEVER),
        np.zeros(n_links, np.int64),
        np.zeros(n_links, np.int64),
    )


@compiled
def _show(layout: Layout, lamp: Ints, change: tuple[int, int], since: int) -> None:
    """Fill in what each link shows; `since` is negative where no change is under way."""
    before, stage = change
    for link in range(len(lamp)):
        old, new = layout.green[before, link], layout.green[stage, link]
        was_green, is_green = _RED < old < _AFTER_STOP, _RED < new < _AFTER_STOP
        if since < 0 or not (was_green or is_green):
            lamp[link] = new
        elif was_green and is_green:
            lamp[link] = min(old, new)
        elif was_green:
            lamp[link] = old if since < layout.ends[before, stage, link] + _YELLOW_USED_S else _RED
        else:
            lamp[link] = new if since >= layout.starts[before, stage, link] else _RED


@compiled
def _arrive(traffic: Traffic, state: _State, t: int) -> tuple[float, float]:
    """Add the vehicles that come to the stop lines in the second from `t`; return how many, and how many must stop."""
    arrived, stopped = 0.0, 0.0
    for lane in range(len(state.head)):
        while state.tail[lane] < traffic.first[lane + 1] and traffic.arrival[state.tail[lane]] < t + 1:
            i = state.tail[lane]
            is_first = state.head[lane] == i and state.free_at[lane] <= traffic.arrival[i] + _UNNOTICED_S
            if traffic.stands[i] == 0 and not (is_first and state.lamp[traffic.link[i]] == _FIRST):
                stopped += 1.0
            arrived += 1.0
            state.tail[lane] += 1
    return arrived, stopped


@compiled
def _discharge(layout: Layout, traffic: Traffic, weights: Weights, state: _State, t: int) -> float:
    """Let vehicles over the stop lines in the second from `t`, those with priority first; return how many."""
    n = 0.0
    state.busy[:] = 0
    for lane in range(len(state.head)):
        i = state.head[lane]
        if i < traffic.first[lane + 1] and traffic.arrival[i] < t + _GAP_AHEAD_S:
            state.busy[traffic.link[i]] = 1
    for has_priority in (True, False):
        for lane in range(len(state.head)):
            while state.head[lane] < state.tail[lane]:
                i = state.head[lane]
                link = traffic.link[i]
                shown = state.lamp[link]
                if shown != _RED and (shown == _FIRST) != has_priority:
                    break
                if shown == _RED or not _may_go(layout, state, link, t):
                    state.is_held[lane] = 1
                    break
                if state.is_held[lane] == 1:
                    state.is_held[lane] = 0
                    state.free_at[lane] = max(state.free_at[lane], t + weights.startup)
                leaves = max(state.free_at[lane], traffic.arrival[i], float(t))
                if leaves >= t + 1:
                    break
                state.free_at[lane] = leaves + layout.headway[lane]
                state.last[link] = leaves
                state.room[layout.exit_of[link]] -= 1.0
                state.head[lane] += 1
                n += 1.0
    return n


@compiled
def _may_go(layout: Layout, state: _State, link: int, t: int) -> bool:
    """Return whether the head of a queue at green finds room behind the junction, and a gap if it must yield."""
    if state.room[layout.exit_of[link]] < 1.0:
        return False
    if state.lamp[link] == _FIRST:
        return True
    for other in range(len(state.lamp)):
        is_moving = state.busy[other] == 1 or state.last[other] > t - _GAP_BEHIND_S
        if is_moving and layout.yields[link, other] and _RED < state.lamp[other] < _AFTER_STOP:
            return False
    return True


@compiled
def _left_over(layout: Layout, state: _State) -> float:
    cost = 0.0
    for lane in range(len(state.head)):
        n = state.tail[lane] - state.head[lane]
        cost += n * (_LEFT_OVER_S + 0.5 * (n + 1) * layout.headway[lane])
    return cost


@compiled
def _rule(layout: Layout, traffic: Traffic, weights: Weights, state: _State, now: _Now) -> int:
    """Return the stage that the rule goes to: the same while it serves someone, else the longest queue."""
    stage, t, shown = now
    n_stages = layout.green.shape[0]
    score = np.zeros(n_stages)
    served, waiting = 0, 0
    for lane in range(len(state.head)):
        i = state.head[lane]
        if i >= traffic.first[lane + 1]:
            continue
        link = traffic.link[i]
        n = state.tail[lane] - i
        if layout.green[stage, link] > _RED:
            if n > 0 or traffic.arrival[i] < t + _COMING_S:
                served += 1
                waiting += n
        elif n > 0:
            for other in range(n_stages):
                if layout.green[other, link] > _RED:
                    score[other] += n
    best = int(np.argmax(score))
    if score[best] <= 0.0:
        return stage
    if served == 0 or shown >= weights.longest or score[best] > weights.urge * waiting + _AHEAD:
        return best
    return stage


@compiled
def best_plan(layout: Layout, traffic: Traffic, weights: Weights, stage: int, holds: Ints) -> tuple[int, int, float]:
    """Return the stage that the cheapest plan changes to, after how many seconds, and its cost.

    The shown stage comes back where staying under the rule is cheapest.
    """
    best_cost = try_plan(layout, traffic, weights, Plan(stage, 1, -1), _NEVER)
    best_stage, best_hold = stage, 1
    for hold in holds:
        for wish in range(layout.green.shape[0]):
            if wish != stage:
                cost = try_plan(layout, traffic, weights, Plan(stage, hold, wish), best_cost)
                if cost < best_cost:
                    best_cost, best_stage, best_hold = cost, wish, hold
    return best_stage, best_hold, best_cost


def warm_up() -> None:
    """Compile the model, or load what an earlier process compiled."""
    ints, floats = np.zeros(1, np.int64), np.ones(1)
    layout = Layout(
        green=np.array([[2], [0]], dtype=np.int64),
        ends=np.zeros((2, 2, 1)),
        starts=np.zeros((2, 2, 1)),
        done=np.ones((2, 2)),
        shortest=np.ones((2, 2)),
        yields=np.zeros((1, 1), dtype=bool),
        exit_of=ints,
        headway=floats,
    )
    traffic = Traffic(link=ints, arrival=floats, stands=ints, first=np.array([0, 1]), room=floats)
    weights = Weights(startup=1.0, stop=1.0, horizon=1, drain=0.0, longest=1.0, urge=1.0)
    best_plan(layout, traffic, weights, 0, ints)
