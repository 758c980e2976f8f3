"""Who is on the way to each signal: one reading per second of the vehicles within detection range.

A real controller gets this from cameras, radar or connected vehicles; loops at the stop line see
less. `detection_m` is how far upstream they see, along the way that vehicles drive: over as many
edges as it takes, because an approach lane of 20 m with a queue behind it looks empty otherwise.
"""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from quatrain.smart_city.signals.model import SignalModel

# Below this a vehicle stands, as SUMO counts it.
STANDING_MPS = 0.1
# What a standing car and the gap in front of it take up.
CAR_SPACE_M = 7.5
# Vehicles choose lanes on the way: which link they head for is asked again this often.
_ASK_AGAIN_S = 3.0
_NEAR_M = 40.0
# Detectors that saw nobody for this long are not believed.
_SILENT_S = 60.0
# Resolution of the share of vehicles that are missed.
_PARTS = 10_000
# Traffic that is faster than this on average leaves room behind it as fast as it comes.
_MOVING_MPS = 2.0


@dataclass(slots=True)
class Seen:
    """One vehicle on its way to a signal."""

    vehicle: str
    link: int
    distance_m: float
    speed_mps: float


@dataclass(slots=True)
class _Track:
    """Where a vehicle's next signal is on its own odometer, and the one after it."""

    stop_at_m: float
    tls: str
    link: int
    ask_at_s: float
    # Signal, link and metres further on.
    then: tuple[str, int, float] | None = None


class Detections:
    """Reads a running simulation through its binding; one object per simulation."""

    def __init__(
        self, sumo: Any, models: dict[str, SignalModel], *, detection_m: float, missed_share: float = 0.0
    ) -> None:
        self._vehicle, self._lane, self._edge = sumo.vehicle, sumo.lane, sumo.edge
        self._models = models
        self._range_m = detection_m
        self._missed = int(missed_share * _PARTS)
        # signal -> when its detectors last saw anyone.
        self._last_seen: dict[str, float] = {}
        self._tracks: dict[str, _Track | None] = {}
        self._read_at: float | None = None
        self._seen: dict[str, list[Seen]] = {}
        # signal -> link -> vehicles that came into range so far.
        self.arrivals: dict[str, dict[int, int]] = {tls: defaultdict(int) for tls in models}
        self._counted: dict[str, str] = {}
        self._person = sumo.person
        self._waiting_places = _waiting_places(models)
        self._has_persons = any(self._waiting_places.values())

    def of(self, tls: str, now: float) -> list[Seen]:
        """Return the vehicles whose next signal is `tls`, within range, the nearest first."""
        if self._read_at != now:
            self._read(now)
            self._read_at = now
        return self._seen.get(tls, [])

    def is_silent(self, tls: str, now: float) -> bool:
        """Return whether a signal's detectors have seen nobody for a minute."""
        since = self._last_seen.setdefault(tls, now)
        if now - since > _SILENT_S:
            self.of(tls, now)
        return now - self._last_seen[tls] > _SILENT_S

    def then(self, vehicle: str) -> tuple[str, int, float] | None:
        """Return the signal after the next one on a vehicle's way, its link, and the metres between the two."""
        track = self._tracks.get(vehicle)
        return None if track is None else track.then

    def _read(self, now: float) -> None:
        seen: dict[str, list[Seen]] = defaultdict(list)
        get_distance, get_speed = self._vehicle.getDistance, self._vehicle.getSpeed
        tracks, limit = self._tracks, self._range_m
        present = self._vehicle.getIDList()
        for vehicle in present:
            track = tracks.get(vehicle)
            driven = get_distance(vehicle)
            if vehicle not in tracks or (track is not None and (now >= track.ask_at_s or track.stop_at_m < driven)):
                track = self._track(vehicle, driven, now)
            if track is None:
                continue
            left = track.stop_at_m - driven
            if left <= limit and track.tls in self._models:
                seen[track.tls].append(Seen(vehicle, track.link, left, get_speed(vehicle)))
                if self._counted.get(vehicle) != track.tls:
                    self._counted[vehicle] = track.tls
                    self.arrivals[track.tls][track.link] += 1
        if len(tracks) > 2 * len(present) + 100:
            there = set(present)
            self._tracks = {vehicle: tracks[vehicle] for vehicle in there if vehicle in tracks}
            self._counted = {vehicle: tls for vehicle, tls in self._counted.items() if vehicle in there}
        for tls, each in seen.items():
            each.sort(key=_distance)
            self._last_seen[tls] = now
        self._seen = seen

    def _track(self, vehicle: str, driven: float, now: float) -> _Track | None:
        ahead = self._vehicle.getNextTLS(vehicle)
        if not ahead:
            # A vehicle whose last signal is behind it is not asked again.
            self._tracks[vehicle] = None
            return None
        if self._missed and zlib.crc32(vehicle.encode()) % _PARTS < self._missed:
            self._tracks[vehicle] = None
            return None
        tls, link, distance, _ = ahead[0]
        then = None
        if len(ahead) > 1:
            then = (ahead[1][0], ahead[1][1], ahead[1][2] - distance)
        wait = _ASK_AGAIN_S if distance > _NEAR_M else 1.0
        track = _Track(driven + distance, tls, link, now + wait, then)
        self._tracks[vehicle] = track
        return track

    def free_space_m(self, lane: str) -> float:
        """Return the room on a lane; infinite where its traffic moves, and for no lane."""
        if not lane:
            return float("inf")
        number = self._lane.getLastStepVehicleNumber(lane)
        if not number or self._lane.getLastStepMeanSpeed(lane) > _MOVING_MPS:
            return float("inf")
        return float(self._lane.getLength(lane)) - CAR_SPACE_M * int(number)

    def on_lane(self, lane: str) -> int:
        """Return how many vehicles are on a lane."""
        return int(self._lane.getLastStepVehicleNumber(lane))

    def walkers_waiting(self, tls: str) -> frozenset[int]:
        """Return the crossing links at which someone stands and waits."""
        if not self._has_persons or not self._person.getIDCount():
            return frozenset()
        called: set[int] = set()
        for place, crossings in self._waiting_places[tls].items():
            for person in self._edge.getLastStepPersonIDs(place):
                links = crossings.get(self._person.getNextEdge(person), ())
                called.update(links)
        return frozenset(called)


def _distance(seen: Seen) -> float:
    return seen.distance_m


def _waiting_places(models: dict[str, SignalModel]) -> dict[str, dict[str, dict[str, list[int]]]]:
    """Return signal -> pavement beside a crossing -> crossing -> links."""
    places: dict[str, dict[str, dict[str, list[int]]]] = {}
    for tls, model in models.items():
        found: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
        for link, connections in enumerate(model.connections):
            for c in connections:
                if c.is_crossing:
                    found[_edge_of(c.from_lane)][_edge_of(c.to_lane)].append(link)
        places[tls] = found
    return places


def _edge_of(lane: str) -> str:
    return lane.rpartition("_")[0]


def standing(seen: Iterable[Seen]) -> dict[int, int]:
    """Return how many vehicles stand, by link."""
    counts: dict[int, int] = defaultdict(int)
    for each in seen:
        if each.speed_mps < STANDING_MPS:
            counts[each.link] += 1
    return counts
