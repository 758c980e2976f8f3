"""Networks from netgenerate, with demand, as a `.sumocfg` that any SUMO program reads."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from importlib.metadata import version
from pathlib import Path

from quatrain.core.config import settings as core_settings
from quatrain.smart_city.data.network import read_network
from quatrain.smart_city.data.scenario import SYNTHETIC
from quatrain.smart_city.networks.config import NetworkConfig
from quatrain.smart_city.networks.demand import write_demand
from quatrain.smart_city.simulation.sumo import run_program

# Part of the digest: a change of what is generated must not find older networks.
_EDITION = 2
_SCENARIO = "scenario.sumocfg"


def cached_scenario(config: NetworkConfig) -> Path:
    """Return the `.sumocfg` of `config` in the cache, generated at the first call."""
    text = json.dumps([_EDITION, version("eclipse-sumo"), config.model_dump(mode="json")], sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    folder = core_settings().cache / "smart_city" / f"{config.kind}-{digest}"
    if not (folder / _SCENARIO).is_file():
        generate_scenario(config, folder)
    return folder / _SCENARIO


def generate_scenario(config: NetworkConfig, folder: Path) -> Path:
    """Return the `.sumocfg` written into `folder`, with its network and demand beside it.

    The same config gives the same bytes but for the date in the network's own comment. Nothing is
    left half written. Raises UserError with netgenerate's words where it cannot make the network.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        run_program("netgenerate", [*_shape(config), *_common(config), "--output-file", str(part / "city.net.xml")])
        write_demand(read_network(part / "city.net.xml"), config, part / "city.rou.xml")
        (part / _SCENARIO).write_text(_configuration(config), encoding="utf-8")
        if folder.exists():
            shutil.copytree(part, folder, dirs_exist_ok=True)
        else:
            part.chmod(0o755)
            part.replace(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return folder / _SCENARIO


def _shape(config: NetworkConfig) -> list[str]:
    if config.kind == "irregular":
        return [
            "--rand",
            *("--rand.iterations", str(2 * config.columns * config.rows)),
            *("--rand.min-distance", f"{config.block_m * 0.6:g}"),
            *("--rand.max-distance", f"{config.block_m * 1.4:g}"),
            *("--rand.neighbor-dist3", "10"),
            *("--rand.neighbor-dist4", "8"),
            *("--rand.neighbor-dist5", "2"),
        ]
    columns, rows = {"crossing": (1, 1), "arterial": (config.columns, 1)}.get(
        config.kind, (config.columns, config.rows)
    )
    return [
        "--grid",
        *("--grid.x-number", str(columns), "--grid.y-number", str(rows)),
        *("--grid.length", f"{config.block_m:g}", "--grid.attach-length", f"{config.block_m:g}"),
    ]


def _common(config: NetworkConfig) -> list[str]:
    flags = [
        *("--default.lanenumber", str(config.lanes)),
        *("--default-junction-type", "traffic_light"),
        *("--turn-lanes", "1" if config.lanes > 1 else "0"),
        *("--tls.cycle.time", str(config.cycle_s)),
        *("--seed", str(config.seed)),
        *("--no-turnarounds", "true"),
    ]
    return [*flags, "--sidewalks.guess", "--crossings.guess"] if config.has_crossings else flags


def _configuration(config: NetworkConfig) -> str:
    return f"""<?xml version="1.0" encoding="UTF-8"?>
<!-- {SYNTHETIC} -->
<configuration>
    <input>
        <net-file value="city.net.xml"/>
        <route-files value="city.rou.xml"/>
    </input>
    <time>
        <begin value="0"/>
        <end value="{config.duration_s}"/>
    </time>
    <processing>
        <time-to-teleport value="-1"/>
    </processing>
</configuration>
"""
