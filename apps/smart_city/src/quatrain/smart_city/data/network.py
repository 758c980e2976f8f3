"""A SUMO network as typed records: lanes, connections, which movements cross, and every signal programme."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from quatrain.core.errors import BadDataError, UserError
from quatrain.smart_city.data.markup import Element, MarkupError, elements

# An edge that has no lane for cars: pavements, crossings, rails.
_NOT_FOR_CARS = frozenset({"pedestrian", "bicycle", "tram", "rail", "rail_urban", "rail_electric", "ship"})


@dataclass(frozen=True, kw_only=True)
class Lane:
    """One lane: its length in metres, speed limit in m/s and centre line in the network's metres."""

    id: str
    edge: str
    length_m: float
    speed_mps: float
    shape: tuple[tuple[float, float], ...]
    is_for_cars: bool


@dataclass(frozen=True, kw_only=True)
class Connection:
    """One way over a junction, from a lane to a lane, or over a pedestrian crossing."""

    from_lane: str
    to_lane: str
    via: str
    junction: str
    # Row of the junction's right-of-way table; None where the network has no internal lanes.
    row: int | None
    tls: str | None
    link: int | None
    direction: str
    is_crossing: bool


@dataclass(frozen=True, kw_only=True)
class Phase:
    """One row of a programme: a state character per link, and its duration in seconds."""

    state: str
    duration_s: float
    min_s: float | None = None
    max_s: float | None = None


@dataclass(frozen=True, kw_only=True)
class Programme:
    """One signal programme as the file gives it."""

    tls: str
    name: str
    kind: str
    offset_s: float
    phases: tuple[Phase, ...]

    @property
    def cycle_s(self) -> float:
        """The sum of the phases' durations."""
        return sum(phase.duration_s for phase in self.phases)


@dataclass(kw_only=True)
class Network:
    """What signal control needs of a `.net.xml`."""

    path: Path
    lanes: dict[str, Lane] = field(default_factory=dict)
    edges: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    # (from, to) nodes of each edge.
    ends: dict[str, tuple[str, str]] = field(default_factory=dict)
    connections: list[Connection] = field(default_factory=list)
    # junction -> foes of each row, as in its right-of-way table.
    foes: dict[str, list[frozenset[int]]] = field(default_factory=dict)
    # junction -> for each row, the rows it must yield to.
    yields: dict[str, list[frozenset[int]]] = field(default_factory=dict)
    programmes: dict[str, list[Programme]] = field(default_factory=lambda: defaultdict(list))
    nodes: dict[str, tuple[float, float]] = field(default_factory=dict)

    def links_of(self, tls: str) -> list[Connection]:
        """Return the connections that the signal `tls` controls, in link order."""
        found = [c for c in self.connections if c.tls == tls and c.link is not None]
        return sorted(found, key=lambda c: (c.link or 0, c.from_lane, c.to_lane))


def read_network(path: Path) -> Network:
    """Return the network in a `.net.xml` or `.net.xml.gz`.

    Raises UserError where the file is missing and BadDataError where it is not a SUMO network.
    """
    if not path.is_file():
        raise UserError(f"there is no network file {path}; check the net-file entry of the scenario")
    network = Network(path=path)
    try:
        for element in _elements(path):
            _READERS[element.tag](network, element)
            element.clear()
    except (MarkupError, OSError, UnicodeDecodeError) as error:
        raise BadDataError(f"{path} is not readable XML ({error}); export it again with netconvert") from error
    except (KeyError, ValueError) as error:
        raise BadDataError(f"{path} is not a SUMO network: {error!r} in one of its elements") from error
    if not network.lanes:
        raise BadDataError(f"{path} has no lanes; expected a SUMO network as netconvert writes it")
    return network


def read_programmes(path: Path) -> list[Programme]:
    """Return the `tlLogic` elements of an additional file; others are passed over."""
    network = Network(path=path)
    try:
        for element in _elements(path):
            if element.tag == "tlLogic":
                _read_programme(network, element)
    except (MarkupError, OSError, UnicodeDecodeError) as error:
        raise BadDataError(f"{path} is not readable XML: {error}") from error
    return [programme for found in network.programmes.values() for programme in found]


def _elements(path: Path) -> Iterator[Element]:
    """Yield the root's children that are read, each complete."""
    for depth, element in elements(path):
        if depth == 1 and element.tag in _READERS:
            yield element


def _read_edge(network: Network, element: Element) -> None:
    edge = element.attrib["id"]
    network.ends[edge] = (element.get("from", ""), element.get("to", ""))
    is_walked = element.get("function") in {"crossing", "walkingarea"}
    for lane in element.iter("lane"):
        attributes = lane.attrib
        network.edges[edge].append(attributes["id"])
        network.lanes[attributes["id"]] = Lane(
            id=attributes["id"],
            edge=edge,
            length_m=float(attributes["length"]),
            speed_mps=float(attributes["speed"]),
            shape=tuple(_points(attributes.get("shape", ""))),
            is_for_cars=not is_walked and _is_for_cars(attributes.get("allow"), attributes.get("disallow")),
        )


def _is_for_cars(allow: str | None, disallow: str | None) -> bool:
    if allow is not None:
        return bool(set(allow.split()) - _NOT_FOR_CARS)
    return disallow is None or not {"all", "passenger"} & set(disallow.split())


def _points(shape: str) -> Iterable[tuple[float, float]]:
    for point in shape.split():
        x, y = point.split(",")[:2]
        yield float(x), float(y)


def _read_connection(network: Network, element: Element) -> None:
    get = element.get
    source, target, via = element.attrib["from"], element.attrib["to"], get("via", "")
    is_crossing = target.startswith(":") and "_c" in target and get("tl") is not None
    if source.startswith(":") and not is_crossing:
        return
    inner = target if is_crossing else via
    junction, row = _row(inner, is_crossing=is_crossing)
    link = get("linkIndex")
    made = [link] if get("linkIndex2") is None else [link, get("linkIndex2")]
    for each in made:
        network.connections.append(
            Connection(
                from_lane=f"{source}_{get('fromLane')}",
                to_lane=f"{target}_{get('toLane')}",
                via=via,
                junction=junction or network.ends.get(source, ("", ""))[1],
                row=row,
                tls=get("tl"),
                link=None if each is None else int(each),
                direction=get("dir", "s"),
                is_crossing=is_crossing,
            )
        )


def _row(inner: str, *, is_crossing: bool) -> tuple[str, int | None]:
    """Return the junction and table row that an internal lane's name holds, such as ":J_3_1".

    A crossing's row comes after all of the vehicles' rows: it is kept as -1 - n until they are known.
    """
    if not inner:
        return "", None
    if is_crossing:
        junction, _, number = inner[1:].rpartition("_c")
        return junction, -1 - int(number)
    junction, first, lane = inner[1:].rsplit("_", 2)
    return junction, int(first) + int(lane)


def _read_junction(network: Network, element: Element) -> None:
    junction = element.attrib["id"]
    if element.get("type") != "internal":
        network.nodes[junction] = (float(element.attrib["x"]), float(element.attrib["y"]))
    rows = sorted(element.iter("request"), key=lambda request: int(request.attrib["index"]))
    if rows:
        network.foes[junction] = [_bits(row.attrib["foes"]) for row in rows]
        network.yields[junction] = [_bits(row.attrib["response"]) for row in rows]


def _bits(text: str) -> frozenset[int]:
    return frozenset(index for index, bit in enumerate(reversed(text)) if bit == "1")


def _read_programme(network: Network, element: Element) -> None:
    phases = tuple(_phase(each) for each in element.iter("phase"))
    tls = element.attrib["id"]
    network.programmes[tls].append(
        Programme(
            tls=tls,
            name=element.get("programID", "0"),
            kind=element.get("type", "static"),
            offset_s=float(element.get("offset", 0)),
            phases=phases,
        )
    )


def _phase(element: Element) -> Phase:
    low, high = element.get("minDur"), element.get("maxDur")
    return Phase(
        state=element.attrib["state"],
        duration_s=float(element.get("duration", low or 0)),
        min_s=None if low is None else float(low),
        max_s=None if high is None else float(high),
    )


_READERS = {
    "edge": _read_edge,
    "connection": _read_connection,
    "junction": _read_junction,
    "tlLogic": _read_programme,
}
