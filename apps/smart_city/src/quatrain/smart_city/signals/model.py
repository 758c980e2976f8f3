"""A signal as its controller sees it: stages the city itself shows, what conflicts, and the times between."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from quatrain.core.errors import BadDataError, UserError
from quatrain.smart_city.data.network import Connection, Network, Programme
from quatrain.smart_city.signals.intergreen import Observed, is_stage, observe

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]

GREENS = frozenset("Gg")
# s: a stop line that may be passed after stopping; o and O: signals off. Vehicles look for gaps themselves.
UNPROTECTED = frozenset("soO")
# Vehicle signals: the shortest green in common guidance (RiLSA 2015, 2.4.2; MUTCD 2009, 4D.26 note the same order).
MIN_GREEN_S = 5.0
# Walking speed that clearance is computed with (RiLSA 2015; MUTCD 2009, 4E.06 uses 1.07 m/s).
WALK_MPS = 1.2
# A red longer than this makes road users doubt the signal; twice the cycle where the city's own is longer.
MAX_RED_S = 120.0
# Yellow where the programme never shows one before red.
DEFAULT_YELLOW_S = 3.0

Intergreen = Literal["incumbent"] | float


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A set of links that are green together, as one row of the city's programme shows it."""

    index: int
    state: str
    green: frozenset[int]


@dataclass(frozen=True, kw_only=True)
class SignalModel:
    """The hard limits of one signal; every array is over links, or over pairs (ending, starting)."""

    tls: str
    n_links: int
    connections: tuple[tuple[Connection, ...], ...]
    stages: tuple[Stage, ...]
    # Pairs that the city never shows green together although their ways cross or merge.
    conflicts: Bools
    # Pairs whose ways cross but which the city shows together, one of them yielding.
    permitted: Bools
    # yields[i, j]: by the junction's right of way, i gives way to j where both are green.
    yields: Bools
    # Speed limit on the approach of each link, in m/s.
    speed_mps: Floats
    is_crossing: Bools
    yellow_s: Floats
    intergreen_s: Floats
    min_green_s: Floats
    max_red_s: float
    cycle_s: float

    @property
    def served(self) -> frozenset[int]:
        """Links that some stage makes green."""
        return frozenset().union(*(stage.green for stage in self.stages))

    def stage_of(self, state: str) -> int | None:
        """Return the stage that shows exactly `state`, or None."""
        found = [stage.index for stage in self.stages if stage.state == state]
        return found[0] if found else None


def signal_models(network: Network, *, intergreen: Intergreen = "incumbent") -> dict[str, SignalModel]:
    """Return a model for each signal that has at least two stages, by its name.

    Raises UserError where the network has no signals, BadDataError where a programme shows
    crossing ways green at once with neither yielding.
    """
    if not network.programmes:
        raise UserError(f"{network.path} has no traffic signals; expected at least one tlLogic with controlled links")
    models = {tls: _model(network, tls, found, intergreen) for tls, found in sorted(network.programmes.items())}
    kept = {tls: model for tls, model in models.items() if model is not None and len(model.stages) > 1}
    if not kept:
        raise UserError(f"no signal in {network.path} has two stages to choose between; nothing can be controlled")
    return kept


def _model(network: Network, tls: str, programmes: Sequence[Programme], intergreen: Intergreen) -> SignalModel | None:
    connections = network.links_of(tls)
    usable = [p for p in programmes if p.phases and p.kind not in {"off", "NEMA"}] or [
        p for p in programmes if p.phases
    ]
    if not connections or not usable:
        return None
    n_links = max(len(usable[0].phases[0].state), 1 + max(c.link or 0 for c in connections))
    states = [phase.state for programme in usable for phase in programme.phases]
    _check_lengths(tls, states, n_links)
    by_link = tuple(tuple(c for c in connections if c.link == link) for link in range(n_links))
    crossing, merging = _foes(network, by_link)
    unknown = _unknown(network, by_link)
    _check_greens(network, tls, states, crossing)
    together, protected = _together(states, n_links)
    foes = crossing | merging | unknown
    observed = observe(usable, foes & ~together)
    is_crossing = np.array([any(c.is_crossing for c in each) for each in by_link])
    yellow, between = _times(network, by_link, is_crossing, observed, intergreen)
    cycle = max(programme.cycle_s for programme in usable)
    return SignalModel(
        tls=tls,
        n_links=n_links,
        connections=by_link,
        stages=_stages(usable),
        conflicts=foes & ~together,
        permitted=crossing & together & ~protected,
        yields=_yields(network, by_link),
        speed_mps=np.array([_speed(network, each) for each in by_link]),
        is_crossing=is_crossing,
        yellow_s=yellow,
        intergreen_s=between,
        min_green_s=np.minimum(np.where(np.isfinite(observed.min_green), observed.min_green, MIN_GREEN_S), 15.0),
        max_red_s=max(MAX_RED_S, 2 * cycle),
        cycle_s=cycle,
    )


def _check_lengths(tls: str, states: Sequence[str], n_links: int) -> None:
    lengths = {len(state) for state in states}
    if lengths != {n_links}:
        raise BadDataError(
            f"signal {tls} has {n_links} links but its programmes have states of {sorted(lengths)} characters; "
            "export the network and its programmes together"
        )


def _foes(network: Network, by_link: Sequence[Sequence[Connection]]) -> tuple[Bools, Bools]:
    """Return which pairs of links cross, and which only merge into one lane."""
    n = len(by_link)
    crossing, merging = np.zeros((n, n), bool), np.zeros((n, n), bool)
    flat = [(link, c, _row(network, c)) for link, each in enumerate(by_link) for c in each]
    for i, first, row in flat:
        if row is None:
            continue
        foes = network.foes[first.junction][row]
        for j, second, other in flat:
            if i != j and first.junction == second.junction and other in foes:
                merges = first.to_lane == second.to_lane
                merging[i, j] |= merges
                merging[j, i] |= merges
                crossing[i, j] |= not merges
                crossing[j, i] |= not merges
    return crossing, merging & ~crossing


def _unknown(network: Network, by_link: Sequence[Sequence[Connection]]) -> Bools:
    """Return the pairs of which no table says whether they cross: they conflict unless the city shows them together."""
    n = len(by_link)
    found = np.zeros((n, n), bool)
    for i, each in enumerate(by_link):
        lacking = {c.junction for c in each if _row(network, c) is None}
        for j, others in enumerate(by_link):
            if i != j and lacking & {c.junction for c in others}:
                found[i, j] = found[j, i] = True
    return found


def _yields(network: Network, by_link: Sequence[Sequence[Connection]]) -> Bools:
    found = np.zeros((len(by_link), len(by_link)), bool)
    flat = [(link, c, _row(network, c)) for link, each in enumerate(by_link) for c in each]
    for i, first, row in flat:
        for j, second, other in flat:
            if row is not None and other is not None and i != j and first.junction == second.junction:
                found[i, j] |= other in network.yields[first.junction][row]
    return found


def _speed(network: Network, connections: Sequence[Connection]) -> float:
    speeds = [network.lanes[c.from_lane].speed_mps for c in connections if c.from_lane in network.lanes]
    return max(speeds, default=WALK_MPS)


def _row(network: Network, connection: Connection) -> int | None:
    table = network.foes.get(connection.junction)
    if table is None or connection.row is None:
        return None
    if connection.row >= 0:
        return connection.row if connection.row < len(table) else None
    rows = {c.row for c in network.connections if c.junction == connection.junction and c.row is not None}
    # Crossings are kept as -1 - n and come after the vehicles.
    row = len({each for each in rows if each >= 0}) - 1 - connection.row
    return row if row < len(table) else None


def _check_greens(network: Network, tls: str, states: Sequence[str], crossing: Bools) -> None:
    for state in states:
        greens = [link for link, char in enumerate(state) if char == "G"]
        for position, i in enumerate(greens):
            for j in greens[position + 1 :]:
                if crossing[i, j]:
                    raise BadDataError(
                        f"signal {tls} in {network.path} shows links {i} and {j} green with priority at once "
                        f"(state {state!r}) although their ways cross; make one of them g, or separate them"
                    )


def _together(states: Sequence[str], n_links: int) -> tuple[Bools, Bools]:
    """Return which pairs are shown green together, and which of them both with priority."""
    together, protected = np.zeros((n_links, n_links), bool), np.zeros((n_links, n_links), bool)
    for state in states:
        green = np.array([char in GREENS for char in state])
        major = np.array([char == "G" for char in state])
        if "y" not in state and "u" not in state:
            together |= green[:, None] & green[None, :]
            protected |= major[:, None] & major[None, :]
    return together, protected


def _stages(programmes: Sequence[Programme]) -> tuple[Stage, ...]:
    """Return the distinct states of the programmes' stages, in their order."""
    states: dict[str, None] = {}
    for programme in programmes:
        for position, phase in enumerate(programme.phases):
            if is_stage(programme.phases, position):
                states.setdefault(phase.state)
    return tuple(Stage(index=i, state=state, green=_green(state)) for i, state in enumerate(states))


def _green(state: str) -> frozenset[int]:
    return frozenset(link for link, char in enumerate(state) if char in GREENS)


def _times(
    network: Network,
    by_link: Sequence[Sequence[Connection]],
    is_crossing: Bools,
    observed: Observed,
    intergreen: Intergreen,
) -> tuple[Floats, Floats]:
    """Return yellow by link, and from the end of one green to the start of another by pair."""
    seen = observed.yellow[np.isfinite(observed.yellow) & (observed.yellow > 0)]
    usual = float(np.max(seen)) if len(seen) else DEFAULT_YELLOW_S
    yellow = np.where(np.isfinite(observed.yellow) & (observed.yellow > 0), observed.yellow, usual)
    if intergreen != "incumbent":
        yellow = np.full(len(by_link), float(intergreen))
    yellow = np.where(is_crossing, 0.0, yellow)
    walked = np.array([_crossing_s(network, each) for each in by_link])
    extra = observed.gap - yellow[:, None]
    vehicles = np.isfinite(observed.gap) & ~is_crossing[:, None]
    most = float(max(0.0, np.max(extra[vehicles]))) if vehicles.any() else 0.0
    if intergreen != "incumbent":
        between = np.repeat(yellow[:, None], len(by_link), axis=1)
    else:
        between = np.where(np.isfinite(observed.gap), observed.gap, yellow[:, None] + most)
    between = np.maximum(between, yellow[:, None])
    own = np.where(np.isfinite(observed.gap), observed.gap, walked[:, None])
    return yellow, np.where(is_crossing[:, None], own, between)


def _crossing_s(network: Network, connections: Sequence[Connection]) -> float:
    lengths = [network.lanes[c.to_lane].length_m for c in connections if c.is_crossing and c.to_lane in network.lanes]
    return float(np.ceil(max(lengths, default=0.0) / WALK_MPS))
