"""Demand for a network: trips between its edges of town, and walkers, from one seed."""

from __future__ import annotations

import math
from collections import defaultdict, deque
from pathlib import Path
from xml.sax.saxutils import quoteattr

import numpy as np

from quatrain.core.errors import UserError
from quatrain.smart_city.data.network import Network
from quatrain.smart_city.networks.config import NetworkConfig

# Through traffic keeps its direction this much more often than it turns off.
_STRAIGHT = 4.0
# Cosine of the angle within which two edges count as one direction.
_ALONG = 0.7


def write_demand(network: Network, config: NetworkConfig, path: Path) -> int:
    """Write `<trip>` elements, and `<person>` ones where people walk; return how many vehicles there are.

    Vehicles enter at the network's edges by a Poisson process and leave at another edge, mostly
    straight on; the main road's edges carry `lane_vph` per lane, the others `side_share` of it.
    """
    rng = np.random.default_rng(config.seed)
    ways = _reachable(network)
    if not ways:
        raise UserError(f"{network.path} has no way from one of its ends to another; nobody could drive")
    trips: list[tuple[float, str, str]] = []
    for source, targets in sorted(ways.items()):
        lanes = sum(network.lanes[lane].is_for_cars for lane in network.edges[source])
        rate = config.lane_vph * lanes * (1.0 if _is_main(network, config, source) else config.side_share)
        weights = np.array([_weight(network, source, target) for target in targets])
        times = _arrivals(rng, rate / 3600, config)
        chosen = rng.choice(len(targets), len(times), p=weights / weights.sum())
        trips += [(departs, source, targets[int(i)]) for departs, i in zip(times, chosen, strict=True)]
    walks = _walks(rng, network, config) if config.has_crossings else []
    _write(path, sorted(trips), sorted(walks))
    return len(trips)


def _reachable(network: Network) -> dict[str, list[str]]:
    """Return, for each edge that nothing leads to, the edges without a way on that can be reached from it."""
    follows: dict[str, set[str]] = defaultdict(set)
    for c in network.connections:
        if not c.is_crossing:
            follows[c.from_lane.rpartition("_")[0]].add(c.to_lane.rpartition("_")[0])
    cars = {lane.edge for lane in network.lanes.values() if lane.is_for_cars and not lane.edge.startswith(":")}
    led_to = {target for targets in follows.values() for target in targets}
    ends = cars - set(follows)
    sources = cars - led_to
    if not sources:
        # A network without loose ends: every edge is a place to live.
        sources = ends = cars
    ways = {}
    for source in sources:
        seen, waiting = {source}, deque([source])
        while waiting:
            for target in follows[waiting.popleft()]:
                if target not in seen:
                    seen.add(target)
                    waiting.append(target)
        targets = sorted(edge for edge in seen & ends if edge != source and not _turns_back(network, source, edge))
        if targets:
            ways[source] = targets
    return ways


def _turns_back(network: Network, source: str, target: str) -> bool:
    return network.ends[source][0] == network.ends[target][1]


def _direction(network: Network, edge: str) -> tuple[float, float]:
    start, end = (network.nodes[node] for node in network.ends[edge])
    length = math.hypot(end[0] - start[0], end[1] - start[1]) or 1.0
    return (end[0] - start[0]) / length, (end[1] - start[1]) / length


def _is_main(network: Network, config: NetworkConfig, edge: str) -> bool:
    return config.kind == "irregular" or abs(_direction(network, edge)[0]) > _ALONG


def _weight(network: Network, source: str, target: str) -> float:
    first, second = _direction(network, source), _direction(network, target)
    along = first[0] * second[0] + first[1] * second[1]
    a, b = (network.nodes[network.ends[edge][0]] for edge in (source, target))
    return (_STRAIGHT if along > _ALONG else 1.0) / (1.0 + math.hypot(a[0] - b[0], a[1] - b[1]) / 2000)


def _arrivals(rng: np.random.Generator, rate: float, config: NetworkConfig) -> list[float]:
    """Return the times of a Poisson process whose rate has one peak in the middle, by thinning."""
    last, at, times = float(max(60, config.duration_s - config.cool_down_s)), 0.0, []
    most = 1.3 if config.has_peak else 1.0
    while rate > 0:
        at += float(rng.exponential(1 / (rate * most)))
        if at >= last:
            break
        share = 0.7 + 0.6 * math.sin(math.pi * at / last) if config.has_peak else 1.0
        if rng.random() < share / most:
            times.append(round(at, 1))
    return times


def _walks(rng: np.random.Generator, network: Network, config: NetworkConfig) -> list[tuple[float, str, str]]:
    paved = sorted(
        edge
        for edge, lanes in network.edges.items()
        if not edge.startswith(":") and any(not network.lanes[lane].is_for_cars for lane in lanes)
    )
    last = max(60, config.duration_s - config.cool_down_s)
    n = int(rng.poisson(config.walkers_per_hour * last / 3600)) if len(paved) > 1 else 0
    pairs = [rng.choice(len(paved), 2, replace=False) for _ in range(n)]
    return [(round(float(rng.uniform(0, last)), 1), paved[int(a)], paved[int(b)]) for a, b in pairs]


def _write(path: Path, trips: list[tuple[float, str, str]], walks: list[tuple[float, str, str]]) -> None:
    lines = ['<?xml version="1.0" encoding="UTF-8"?>', "<routes>"]
    rows = [(departs, 0, source, target) for departs, source, target in trips]
    rows += [(departs, 1, source, target) for departs, source, target in walks]
    for number, (departs, walks_on, source, target) in enumerate(sorted(rows)):
        way = f"from={quoteattr(source)} to={quoteattr(target)}"
        if walks_on:
            lines.append(f'    <person id="p{number}" depart="{departs:g}"><walk {way}/></person>')
        else:
            lines.append(f'    <trip id="v{number}" depart="{departs:g}" {way} departLane="best" departSpeed="max"/>')
    path.write_text("\n".join([*lines, "</routes>"]) + "\n", encoding="utf-8")
