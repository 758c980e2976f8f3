"""Rolling optimisation: every second, the plan for the next minute that costs road users least."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from quatrain.smart_city.controllers.messages import Coming, Messages
from quatrain.smart_city.controllers.settings import ControlSettings
from quatrain.smart_city.features import CAR_SPACE_M, STANDING_MPS, Detections, Seen
from quatrain.smart_city.models.queues import Floats, Layout, Traffic, Weights, best_plan
from quatrain.smart_city.signals.model import GREENS, SignalModel
from quatrain.smart_city.signals.shield import Shield

# How long to stay before changing: what plans are tried.
_HOLDS_S = np.array([0, 1, 2, 3, 4, 6, 8, 11, 15, 20, 27], dtype=np.int64)
# Arrivals per second are averaged over about this long.
_RATE_S = 240.0
# Fewer vehicles than this in the horizon are not expected.
_LEAST_EXPECTED = 0.5
# Neighbours tell of departures in about this time.
_TOLD_S = 15.0
# Long after a stage began, when all its minimum greens are over; and a red that is never too long.
_SETTLED_S, _NEVER_S = 1000.0, 1e9
# An exit with moving traffic takes all that comes.
_ANY_ROOM = 1e6


def make_rolling(
    models: dict[str, SignalModel], detections: Detections, settings: ControlSettings, *, has_messages: bool
) -> dict[str, RollingOptimisation]:
    """Return one controller per signal; with messages they tell each other who is about to come."""
    messages = Messages() if has_messages else None
    return {tls: RollingOptimisation(model, detections, settings, messages) for tls, model in models.items()}


class RollingOptimisation:
    """Tries each next stage after each hold on the queue model, and takes the first step of the best plan."""

    def __init__(
        self, model: SignalModel, detections: Detections, settings: ControlSettings, messages: Messages | None
    ) -> None:
        self._model, self._detections, self._settings, self._messages = model, detections, settings, messages
        self._lanes, self._lane_of = _lanes(model)
        self._exits, exit_of = _exits(model)
        self._layout = make_layout(model, self._lanes, exit_of, settings)
        self._weights = Weights(
            startup=settings.startup_s,
            stop=settings.stop_s,
            horizon=settings.horizon_s,
            drain=0.2,
            longest=60.0,
            urge=3.0,
        )
        self._rate = np.zeros(model.n_links)
        self._counted = np.zeros(model.n_links)
        self._rated_at: float | None = None

    def choose(self, shield: Shield, now: float) -> int:
        """Return the stage to show next."""
        self._update_rates(now)
        seen = self._detections.of(self._model.tls, now)
        stage = shield.stage
        if not seen:
            return stage
        traffic = self._traffic(seen, now)
        wish, hold, _ = best_plan(self._layout, traffic, self._weights, stage, _HOLDS_S)
        if self._messages is not None and (wish == stage or hold > 0):
            until_s = _TOLD_S if wish == stage else float(hold)
            self._tell(self._messages, self._leaving(seen, stage, until_s, traffic.room), now)
        return wish if hold == 0 else stage

    def _tell(self, messages: Messages, leaving: list[tuple[Seen, float]], now: float) -> None:
        """Tell the next signals who is about to leave for them, and when they will be there."""
        for each, leaves in leaving:
            then = self._detections.then(each.vehicle)
            if then is not None:
                tls, link, further_m = then
                speed = float(self._model.speed_mps[each.link])
                messages.send(tls, each.vehicle, Coming(link, now + leaves + further_m / speed))

    def _leaving(self, seen: list[Seen], stage: int, until_s: float, room: Floats) -> list[tuple[Seen, float]]:
        """Return who leaves within `until_s` seconds if the stage stays, and when."""
        green = self._model.stages[stage].green
        free_at, room = [0.0] * len(self._lanes), room.copy()
        found = []
        for each in seen:
            lane, way_out = self._lane_of[each.link], self._layout.exit_of[each.link]
            leaves = max(free_at[lane], self._arrival(each))
            if each.link not in green or room[way_out] < 1.0:
                # Nor does anyone behind a red arrow, or behind a full exit.
                leaves = float("inf")
            free_at[lane] = leaves + float(self._layout.headway[lane])
            if leaves <= until_s:
                room[way_out] -= 1.0
                found.append((each, leaves))
        return found

    def _update_rates(self, now: float) -> None:
        counts = self._detections.arrivals[self._model.tls]
        total = np.array([counts.get(link, 0) for link in range(self._model.n_links)], dtype=float)
        if self._rated_at is not None and now > self._rated_at:
            passed = now - self._rated_at
            share = 1 - np.exp(-passed / _RATE_S)
            self._rate += share * ((total - self._counted) / passed - self._rate)
        self._counted, self._rated_at = total, now

    def _arrival(self, each: Seen) -> float:
        limit = float(self._model.speed_mps[each.link])
        return each.distance_m / (0.5 * (min(each.speed_mps, limit) + limit))

    def _traffic(self, seen: list[Seen], now: float) -> Traffic:
        lanes: list[list[tuple[float, int, int]]] = [[] for _ in self._lanes]
        for each in seen:
            lane = lanes[self._lane_of[each.link]]
            # Nobody overtakes in a queue: who is further away does not arrive earlier.
            arrival = max(self._arrival(each), lane[-1][0] if lane else 0.0)
            lane.append((arrival, each.link, int(each.speed_mps < STANDING_MPS)))
        for index, expected in enumerate(self._expected(seen, now)):
            last = lanes[index][-1][0] if lanes[index] else 0.0
            lanes[index] += [(max(at, last), link, 0) for at, link in sorted(expected)]
        order = [vehicle for lane in lanes for vehicle in lane]
        return Traffic(
            link=np.array([vehicle[1] for vehicle in order], dtype=np.int64),
            arrival=np.array([vehicle[0] for vehicle in order], dtype=np.float64),
            stands=np.array([vehicle[2] for vehicle in order], dtype=np.int64),
            first=np.cumsum([0, *map(len, lanes)]).astype(np.int64),
            room=np.array([self._room(lane) for lane in self._exits], dtype=np.float64),
        )

    def _expected(self, seen: list[Seen], now: float) -> list[list[tuple[float, int]]]:
        """Return by lane who is not in sight yet: those that neighbours tell of, then the last minutes' rates."""
        lanes: list[list[tuple[float, int]]] = [[] for _ in self._lanes]
        tls, horizon = self._model.tls, self._settings.horizon_s
        told = [0] * self._model.n_links
        inbox = self._messages.read(tls, now, {each.vehicle for each in seen}) if self._messages is not None else []
        for coming in inbox:
            if coming.at_s - now < horizon:
                lanes[self._lane_of[coming.link]].append((coming.at_s - now, coming.link))
                told[coming.link] += 1
        for link, rate in enumerate(self._rate):
            if rate * horizon < _LEAST_EXPECTED:
                continue
            gap = 1 / rate
            # Those told of are among the usual number, not beside it.
            at = self._settings.detection_m / float(self._model.speed_mps[link]) + gap * (told[link] + 0.5)
            while at < horizon:
                lanes[self._lane_of[link]].append((at, link))
                at += gap
        return lanes

    def _room(self, lane: str) -> float:
        space = self._detections.free_space_m(lane)
        return _ANY_ROOM if space == float("inf") else max(0.0, space / CAR_SPACE_M)


def _lanes(model: SignalModel) -> tuple[list[tuple[str, ...]], list[int]]:
    """Return the queues of a signal and each link's: links that leave the same lanes share one."""
    lanes: list[tuple[str, ...]] = []
    of_link = []
    for connections in model.connections:
        names = tuple(sorted({c.from_lane for c in connections}))
        if names not in lanes:
            lanes.append(names)
        of_link.append(lanes.index(names))
    return lanes, of_link


def _exits(model: SignalModel) -> tuple[list[str], np.ndarray]:
    names: list[str] = []
    of_link = np.zeros(model.n_links, dtype=np.int64)
    for link, connections in enumerate(model.connections):
        name = connections[0].to_lane if connections else ""
        if name not in names:
            names.append(name)
        of_link[link] = names.index(name)
    return names, of_link


def make_layout(
    model: SignalModel, lanes: list[tuple[str, ...]], exit_of: np.ndarray, settings: ControlSettings
) -> Layout:
    """Return the signal as the queue model wants it."""
    n_stages, n_links = len(model.stages), model.n_links
    # The changes as such, not those that a long red would force.
    endless = replace(model, max_red_s=_NEVER_S)
    codes = {"G": 2, "g": 1, "s": 3}
    green = np.array([[codes.get(char, 0) for char in stage.state] for stage in model.stages], dtype=np.int64)
    ends = np.full((n_stages, n_stages, n_links), np.inf)
    starts = np.zeros((n_stages, n_stages, n_links))
    done, shortest = np.zeros((n_stages, n_stages)), np.zeros((n_stages, n_stages))
    for a in model.stages:
        for b in model.stages:
            if a.index == b.index:
                continue
            probe = Shield(endless, stage=a.index, now=-_SETTLED_S)
            last = {link: char in GREENS for link, char in enumerate(probe.state)}
            for t in range(200):
                state = probe.step(float(t), b.index)
                for link, char in enumerate(state):
                    if last[link] and char not in GREENS:
                        ends[a.index, b.index, link] = t
                    elif not last[link] and char in GREENS:
                        starts[a.index, b.index, link] = t
                    last[link] = char in GREENS
                if t and not probe.is_changing:
                    done[a.index, b.index] = t
                    break
            least = [starts[a.index, b.index, j] + model.min_green_s[j] for j in b.green - a.green]
            shortest[a.index, b.index] = max([done[a.index, b.index], *least])
    headway = np.array([settings.headway_s / max(1, len(names)) for names in lanes])
    return Layout(green, ends, starts, done, shortest, model.yields, exit_of, headway)
