"""`quatrain smart-city`: the app's commands; each reads its config, calls a room and prints what came."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from quatrain.core.cli.options import (
    ConfigFile,
    Json,
    Out,
    Overrides,
    Quiet,
    Seed,
    Verbose,
    print_json,
)
from quatrain.core.cli.printing import print_facts, start

if TYPE_CHECKING:
    from collections.abc import Sequence

app = typer.Typer(name="smart-city", help="Traffic-signal timing on SUMO.", no_args_is_help=True)
data_app = typer.Typer(help="Make and check scenarios.", no_args_is_help=True)
app.add_typer(data_app, name="data")

ScenarioPath = Annotated[Path | None, typer.Option("--scenario", help="A .sumocfg, or a .net.xml with --routes.")]
Routes = Annotated[list[Path] | None, typer.Option("--routes", help="Demand of a bare network; repeatable.")]
Seeds = Annotated[str | None, typer.Option("--seeds", help="Seeds to measure over, such as 1,2,3.")]
Intergreen = Annotated[
    str | None, typer.Option("--intergreen", help="incumbent: the city's own times; or seconds for all.")
]
Workers = Annotated[int | None, typer.Option("--workers", help="Simulations at once; default: one per core.")]


@app.callback()
def _smart_city() -> None:
    """Traffic-signal timing on SUMO."""


@app.command()
def evaluate(
    *,
    scenario: ScenarioPath = None,
    routes: Routes = None,
    controllers: Annotated[
        str | None, typer.Option("--controllers", help="Names, such as fixed,actuated,max-pressure,quatrain.")
    ] = None,
    seeds: Seeds = None,
    intergreen: Intergreen = None,
    gate_seeds: Annotated[int | None, typer.Option("--gate-seeds", help="Seeds of the shadow gate.")] = None,
    emissions: Annotated[bool, typer.Option("--emissions", help="Measure CO2 as well; slower.")] = False,
    workers: Workers = None,
    binding: Annotated[
        Literal["libsumo", "traci"] | None, typer.Option("--binding", help="How SUMO is driven.")
    ] = None,
    config: ConfigFile = None,
    overrides: Overrides = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Compare controllers on any SUMO scenario with signals; quatrain is what the shadow gate lets ship."""
    start(quiet=quiet, verbose=verbose)
    from quatrain.core.config import load
    from quatrain.smart_city.evaluate import EvaluateConfig, parse_intergreen
    from quatrain.smart_city.evaluate import evaluate as run_evaluation

    flags = {
        "scenario": scenario,
        "routes": tuple(routes) if routes else None,
        "controllers": _words(controllers),
        "seeds": _words(seeds),
        "intergreen": None if intergreen is None else parse_intergreen(intergreen),
        "n_gate_seeds": gate_seeds,
        "has_emissions": emissions or None,
        "workers": workers,
        "binding": binding,
    }
    settings = load(EvaluateConfig, section="smart_city.evaluate", file=config, overrides=overrides or (), flags=flags)
    document = run_evaluation(settings)
    if json:
        print_json(document)
        return
    _print_rows(document["rows"], title=f"{document['data']}: {document['signals']} signals, {document['split']}")
    for row in document["rows"]:
        for verdict in row.get("gate", ()):
            typer.echo(f"gate: {verdict['controller']:<9} {verdict['reason']}")
        if "choice" in row:
            typer.echo(f"quatrain ships {row['choice']}")


@app.command()
def retime(
    *,
    scenario: ScenarioPath = None,
    routes: Routes = None,
    counts: Annotated[
        Path | None, typer.Option("--counts", help="CSV of signal, link, vph; default: counted in simulation.")
    ] = None,
    out: Out = None,
    budget: Annotated[int | None, typer.Option("--budget", help="Plans that the search tries at most.")] = None,
    proof_seeds: Annotated[int | None, typer.Option("--proof-seeds", help="Seeds that the result is shown on.")] = None,
    seed: Seed = None,
    workers: Workers = None,
    config: ConfigFile = None,
    overrides: Overrides = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Re-time a city's fixed plans, and write them as a SUMO file and as plan sheets."""
    start(quiet=quiet, verbose=verbose)
    from quatrain.core.config import load
    from quatrain.smart_city.retime.config import RetimeConfig
    from quatrain.smart_city.retime.run import retime as run_retiming

    flags = {
        "scenario": scenario,
        "routes": tuple(routes) if routes else None,
        "counts": counts,
        "out": out,
        "budget": budget,
        "n_proof_seeds": proof_seeds,
        "seed": seed,
        "workers": workers,
    }
    result = run_retiming(
        load(RetimeConfig, section="smart_city.retime", file=config, overrides=overrides or (), flags=flags)
    )
    document = result.to_dict()
    if json:
        print_json(document)
        return
    low, high = document["interval_s"]
    typer.echo(
        f"{document['data']}: {document['incumbent_delay_s']:.1f} s delay under the city's plan, "
        f"{document['delay_s']:.1f} s re-timed "
        f"({document['difference_s']:+.1f} s, 90 % interval {low:+.1f} to {high:+.1f})"
    )
    typer.echo(f"{'kept' if result.is_promoted else 'the city plan stays'}: {document['reason']}")
    for path in document["outputs"]:
        typer.echo(f"  {path}")


@app.command()
def score(
    *,
    data: Annotated[
        list[Path] | None, typer.Option("--data", help="A .sumocfg, or a folder of some; repeatable.")
    ] = None,
    out: Out = None,
    budget: Annotated[int | None, typer.Option("--budget", help="Plans tried per scenario at most.")] = None,
    workers: Workers = None,
    config: ConfigFile = None,
    overrides: Overrides = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Re-time every scenario that is new or changed, for cron; exit 65 for unusable ones, 75 while locked."""
    start(quiet=quiet, verbose=verbose)
    from quatrain.core.config import load
    from quatrain.smart_city.score import ScoreConfig, default_out
    from quatrain.smart_city.score import score as run_scoring

    flags = {
        "inputs": tuple(data) if data else None,
        "out": out or default_out(),
        "budget": budget,
        "workers": workers,
    }
    report = run_scoring(
        load(ScoreConfig, section="smart_city.score", file=config, overrides=overrides or (), flags=flags)
    )
    if json:
        print_json(report.to_dict())
    else:
        units = ", ".join(f"{count} {name}" for name, count in report.units.items())
        typer.echo(f"{report.status}: scenarios {units}" + (f"; {report.error}" if report.error else ""))
        for path in report.outputs:
            typer.echo(f"  {path}")
    raise typer.Exit(report.exit_code)


@app.command()
def train(
    *,
    budget: Annotated[int | None, typer.Option("--budget", help="Weights that are tried.")] = None,
    seed: Seed = None,
    workers: Workers = None,
    config: ConfigFile = None,
    overrides: Overrides = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Fit the rolling optimisation's weights on generated networks, and keep them if held-out ones gain."""
    start(quiet=quiet, verbose=verbose)
    from quatrain.core.config import load
    from quatrain.smart_city.train import TrainConfig
    from quatrain.smart_city.train import train as run_training

    flags = {"budget": budget, "seed": seed, "workers": workers}
    document = run_training(
        load(TrainConfig, section="smart_city.train", file=config, overrides=overrides or (), flags=flags)
    ).to_dict()
    if json:
        print_json(document)
        return
    _print_rows(document["rows"], title="Held-out networks: delay with the fitted and the default weights")
    kept = "kept" if document["is_promoted"] else "not kept: the default weights stay"
    typer.echo(f"{kept} ({document['difference_s']:+.2f} s); {document['settings']}")


@app.command()
def dashboard(port: Annotated[int, typer.Option("--port", help="Port on 127.0.0.1.")] = 8501) -> None:
    """Open the comparison and the plans in a browser."""
    from quatrain.core.dashboard.run import serve

    raise typer.Exit(serve("smart-city", port=port))


@data_app.command("generate")
def generate(
    out: Annotated[Path, typer.Argument(help="The folder to write the scenario into.")],
    *,
    kind: Annotated[
        Literal["arterial", "grid", "irregular", "crossing"], typer.Option("--kind", help="The shape of the network.")
    ] = "arterial",
    seed: Annotated[int, typer.Option("--seed", help="Seed of every random choice.")] = 0,
    overrides: Overrides = None,
    json: Json = False,
) -> None:
    """Write a SYNTHETIC network with demand as a .sumocfg; --set changes its size and demand."""
    start()
    from quatrain.core.config import load
    from quatrain.smart_city.networks.config import NetworkConfig
    from quatrain.smart_city.networks.generate import generate_scenario

    settings = load(
        NetworkConfig,
        section="smart_city.network",
        overrides=overrides or (),
        flags={"kind": kind, "seed": seed},
    )
    scenario = generate_scenario(settings, out)
    print_facts({"path": str(scenario), "is_synthetic": True, **settings.model_dump(mode="json")}, json=json)


@data_app.command("describe")
def describe(scenario: ScenarioPath = None, routes: Routes = None, json: Json = False) -> None:
    """Show a scenario's signals: stages, links, cycle, and the intergreens that its programmes keep."""
    start()
    from quatrain.core.config import load
    from quatrain.smart_city.data.summary import describe_scenario
    from quatrain.smart_city.evaluate import EvaluateConfig

    flags = {"scenario": scenario, "routes": tuple(routes) if routes else None}
    document = describe_scenario(load(EvaluateConfig, section="smart_city.evaluate", flags=flags).read_scenario())
    if json:
        print_json(document)
        return
    for signal in document["signals"]:
        typer.echo("  ".join(f"{name} {value}" for name, value in signal.items()))


def _words(text: str | None) -> tuple[str, ...] | None:
    return None if text is None else tuple(word.strip() for word in text.split(",") if word.strip())


def _print_rows(rows: Sequence[dict[str, Any]], *, title: str) -> None:
    from rich.console import Console
    from rich.table import Table

    names = [name for name in rows[0]["metrics"] if all(name in row["metrics"] for row in rows)]
    table = Table(title=title, title_justify="left")
    table.add_column("controller", no_wrap=True)
    for name in names:
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(row["name"], *(f"{row['metrics'][name]:.1f}" for name in names))
    Console().print(table)
