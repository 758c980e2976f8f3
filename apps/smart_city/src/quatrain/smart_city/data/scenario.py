"""A SUMO scenario: what it is made of, checked before a simulation starts, and how SUMO is told to run it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from quatrain.core.errors import BadDataError, UserError
from quatrain.smart_city.data.markup import MarkupError, elements
from quatrain.smart_city.data.network import Network, read_network, read_programmes

# A scenario that names no end runs until everyone has arrived, at the longest for this long.
LONGEST_S = 4 * 3600.0
# Entries of a .sumocfg that name files to read, under every name that SUMO knows them by.
_INPUTS = {
    "net-file": "net-file",
    "net": "net-file",
    "n": "net-file",
    "route-files": "route-files",
    "routes": "route-files",
    "r": "route-files",
    "additional-files": "additional-files",
    "additional": "additional-files",
    "a": "additional-files",
    "weight-files": "weight-files",
}
# What would write files beside the scenario, draw, or print: each simulation measures on its own.
_LEFT_OUT = ("output", "report", "gui_only", "traci_server", "random_number", "mesoscopic")
# The comment that `data generate` writes into a .sumocfg, and how far into the file it is looked for.
SYNTHETIC = "SYNTHETIC: a generated network"
_HEAD = 1000


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """A network with demand, from a `.sumocfg` or from its parts; paths are absolute."""

    name: str
    network: Path
    routes: tuple[Path, ...]
    additional: tuple[Path, ...] = ()
    begin_s: float = 0.0
    # None: until everyone has arrived.
    end_s: float | None = None
    step_s: float = 1.0
    # Other entries of the .sumocfg, such as time-to-teleport, as SUMO's flags.
    options: tuple[tuple[str, str], ...] = field(default=())
    # Whether its network was generated, as `data generate` notes in the .sumocfg.
    is_synthetic: bool = False

    @property
    def last_s(self) -> float:
        """The second at which the simulation stops at the latest."""
        return self.begin_s + LONGEST_S if self.end_s is None else self.end_s

    def read_network(self) -> Network:
        """Return the network, with the programmes of the additional files added to its own."""
        network = read_network(self.network)
        for path in self.additional:
            for programme in read_programmes(path):
                network.programmes[programme.tls].append(programme)
        return network

    def flags(self) -> list[str]:
        """Return SUMO's command-line flags for this scenario, without outputs."""
        flags = ["--net-file", str(self.network), "--begin", str(self.begin_s), "--step-length", str(self.step_s)]
        if self.routes:
            flags += ["--route-files", ",".join(map(str, self.routes))]
        if self.end_s is not None:
            flags += ["--end", str(self.end_s)]
        for name, value in self.options:
            flags += [f"--{name}", value]
        return flags


def read_scenario(path: Path) -> Scenario:
    """Return the scenario of a `.sumocfg` file.

    Raises UserError where it or a file that it names is missing, BadDataError where one is not XML.
    """
    path = path.absolute()
    if not path.is_file():
        raise UserError(f"there is no scenario {path}; give a .sumocfg file")
    entries = _entries(path)
    files = {name: _files(path, entries.pop(name, "")) for name in set(_INPUTS.values())}
    if len(files["net-file"]) != 1:
        raise BadDataError(f"{path} names no net-file; expected a SUMO configuration with an input section")
    begin, end = _seconds(path, entries.pop("begin", "0")), _seconds(path, entries.pop("end", "-1"))
    scenario = Scenario(
        name=path.stem,
        network=files["net-file"][0],
        routes=files["route-files"],
        additional=files["additional-files"],
        begin_s=begin,
        end_s=None if end < 0 else end,
        step_s=_seconds(path, entries.pop("step-length", "1")),
        options=tuple(sorted(entries.items())),
        is_synthetic=f"<!-- {SYNTHETIC} -->" in path.read_text(encoding="utf-8", errors="replace")[:_HEAD],
    )
    return check_scenario(scenario)


def scenario_from_parts(
    *,
    network: Path,
    routes: tuple[Path, ...],
    begin_s: float = 0.0,
    end_s: float | None = None,
    additional: tuple[Path, ...] = (),
) -> Scenario:
    """Return a scenario of a network and routes that come without a `.sumocfg`."""
    return check_scenario(
        Scenario(
            name=network.name.removesuffix(".gz").removesuffix(".net.xml"),
            network=network.absolute(),
            routes=tuple(each.absolute() for each in routes),
            additional=tuple(each.absolute() for each in additional),
            begin_s=begin_s,
            end_s=end_s,
        )
    )


def check_scenario(scenario: Scenario) -> Scenario:
    """Return the scenario; raise where its files are missing, are not XML, or its times make no sense."""
    for path in (scenario.network, *scenario.routes, *scenario.additional):
        _check_xml(path)
    if scenario.end_s is not None and scenario.end_s <= scenario.begin_s:
        raise BadDataError(f"{scenario.name} ends at {scenario.end_s} s, which is not after {scenario.begin_s} s")
    if not 0 < scenario.step_s <= 1:
        raise BadDataError(f"{scenario.name} has steps of {scenario.step_s} s; signals need steps of at most 1 s")
    if not scenario.routes and not scenario.additional:
        raise UserError(f"{scenario.name} has no route file: nobody would drive; name one under route-files")
    return scenario


def _check_xml(path: Path) -> None:
    if not path.is_file():
        raise UserError(f"there is no file {path}, which the scenario names; copy it there or mend the entry")
    try:
        for _, element in elements(path):
            element.clear()
    except (MarkupError, OSError) as error:
        raise BadDataError(f"{path} is not readable XML ({error}); export it again") from error


def _entries(path: Path) -> dict[str, str]:
    entries: dict[str, str] = {}
    try:
        for depth, section in elements(path):
            if depth == 1 and section.tag not in _LEFT_OUT:
                for element in [section, *section]:
                    value = element.get("value", element.get("v"))
                    if value is not None:
                        entries[_INPUTS.get(element.tag, element.tag)] = value
    except (MarkupError, OSError) as error:
        raise BadDataError(f"{path} is not readable XML ({error}); export it again") from error
    return entries


def _files(path: Path, value: str) -> tuple[Path, ...]:
    named = [text.strip() for text in value.replace(";", ",").split(",") if text.strip()]
    return tuple((path.parent / text).resolve() for text in named)


def _seconds(path: Path, text: str) -> float:
    parts = text.strip().split(":")
    try:
        numbers = [float(part) for part in parts]
    except ValueError as error:
        raise BadDataError(f"{path} has the time {text!r}; expected seconds or hh:mm:ss") from error
    weights = (86400, 3600, 60, 1)[-len(numbers) :]
    return sum(number * weight for number, weight in zip(numbers, weights, strict=True))
