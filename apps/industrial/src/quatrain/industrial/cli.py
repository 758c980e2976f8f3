"""The inspection app's commands; each reads its config, calls a room and prints what came."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from quatrain.core.cli.options import (
    BundlePath,
    ConfigFile,
    Data,
    Json,
    Out,
    Overrides,
    Promote,
    Quiet,
    Seed,
    Verbose,
    print_json,
)
from quatrain.core.cli.printing import cell, print_facts, print_plan_and_error, start

if TYPE_CHECKING:
    from quatrain.core.jobs.report import JobReport

app = typer.Typer(help="Defect inspection on images of parts.", no_args_is_help=True)
data_app = typer.Typer(help="Draw and describe folders of parts.", no_args_is_help=True)
app.add_typer(data_app, name="data")

Since = Annotated[str | None, typer.Option("--since", help="Only files modified at or after this ISO time.")]
Overkill = Annotated[
    float | None, typer.Option("--overkill", help="The share of good parts that may fail, such as 0.02.")
]


@app.callback()
def _industrial() -> None:
    """Defect inspection on images of parts."""


@app.command()
def train(
    *,
    data: Data = None,
    out: Out = None,
    overkill: Overkill = None,
    promote: Promote = None,
    seed: Seed = None,
    config: ConfigFile = None,
    overrides: Overrides = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Learn good parts from a folder and seal an inspector as industrial/surface."""
    start(quiet=quiet, verbose=verbose)
    from quatrain.core.config import load
    from quatrain.industrial.train.config import TrainConfig
    from quatrain.industrial.train.run import train as run_training

    choice = None if promote is None else "yes" if promote else "no"
    flags = {"data": data, "out": out, "target_overkill": overkill, "promote": choice, "seed": seed}
    result = run_training(
        load(TrainConfig, section="industrial.train", file=config, overrides=overrides or (), flags=flags)
    )
    document = result.to_dict()
    if json:
        print_json(document)
        return
    typer.echo(f"chose {' and '.join(document['choice']['scorers'])} on {document['choice']['on']}")
    for suspect in document["suspects"]:
        typer.echo(f"look at {suspect['file']}: it stands out among the good parts (score {suspect['score']:.1f})")
    typer.echo(document["promise"])
    typer.echo(f"sealed {document['version'] or document['bundle']} (digest {document['digest'][:12]})")


@app.command()
def evaluate(
    *,
    data: Data = None,
    bundle: BundlePath = None,
    seed: Seed = None,
    config: ConfigFile = None,
    overrides: Overrides = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Measure a sealed inspector on labelled parts: images, pixels, overkill and escapes."""
    start(quiet=quiet, verbose=verbose)
    from quatrain.core.config import load
    from quatrain.industrial.evaluate.run import EvaluateConfig
    from quatrain.industrial.evaluate.run import evaluate as run_evaluation

    flags = {"data": data, "bundle": bundle, "seed": seed}
    settings = load(EvaluateConfig, section="industrial.evaluate", file=config, overrides=overrides or (), flags=flags)
    document = run_evaluation(settings)
    if json:
        print_json(document)
        return
    _print_rows(document["rows"], title=f"{document['data']}: {document['n']} parts ({document['layout']})")
    typer.echo(document["promise"])
    for refused in document["refused"]:
        typer.echo(f"not measured: {refused['reason']}")


@app.command()
def score(
    *,
    data: Annotated[list[str] | None, typer.Option("--data", help="Image, or folder of images; repeatable.")] = None,
    bundle: BundlePath = None,
    out: Out = None,
    since: Since = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done; write nothing.")] = False,
    max_bad_ratio: Annotated[
        float | None, typer.Option("--max-bad-ratio", help="Exit 65 above this share of images that are refused.")
    ] = None,
    prom: Annotated[Path | None, typer.Option("--prom", help="Write metrics to this node-exporter textfile.")] = None,
    config: ConfigFile = None,
    overrides: Overrides = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Inspect new images once each; exit 65 for too many bad images, 75 while another run holds the lock."""
    start(quiet=quiet, verbose=verbose)
    from quatrain.core.config import load
    from quatrain.core.data.catalogue import find
    from quatrain.industrial.score.run import ScoreConfig
    from quatrain.industrial.score.run import score as run_scoring

    flags = {
        "inputs": tuple(find(name) for name in data) if data else None,
        "bundle": bundle,
        "out": out,
        "since": since,
        "dry_run": dry_run or None,
        "max_bad_ratio": max_bad_ratio,
        "prom": prom,
    }
    settings = load(ScoreConfig, section="industrial.score", file=config, overrides=overrides or (), flags=flags)
    report = run_scoring(settings)
    if json:
        print_json(report.to_dict())
    else:
        _print_report(report)
    raise typer.Exit(report.exit_code)


@app.command()
def dashboard(port: Annotated[int, typer.Option("--port", help="Port on 127.0.0.1.")] = 8501) -> None:
    """Open the inspected parts and the threshold in a browser."""
    from quatrain.core.dashboard.run import serve

    raise typer.Exit(serve("industrial", port=port))


@data_app.command("generate")
def generate(
    path: Annotated[Path, typer.Argument(help="The folder to write.")],
    *,
    kind: Annotated[Literal["disc", "pcb", "fabric", "cast"], typer.Option("--kind", help="What is drawn.")] = "disc",
    seed: Annotated[int, typer.Option("--seed", help="Seed of every random choice.")] = 0,
    overrides: Overrides = None,
    json: Json = False,
) -> None:
    """Draw SYNTHETIC parts with defects and masks in MVTec AD's layout; --set changes what is drawn."""
    start()
    from quatrain.core.config import load
    from quatrain.industrial.simulation.parts import PartsConfig, write_parts

    options = load(PartsConfig, section="industrial.parts", overrides=overrides or (), flags={"kind": kind})
    write_parts(path, seed=seed, **options.model_dump())
    print_facts({"path": str(path), "is_synthetic": True, "seed": seed} | options.model_dump(mode="json"), json=json)


@data_app.command("describe")
def describe(
    data: Annotated[str, typer.Option("--data", help="Catalogue name, or folder in any known layout.")],
    json: Json = False,
) -> None:
    """Show how a folder would be read: its layout, splits, kinds of defects and masks."""
    start()
    from quatrain.core.data.catalogue import find
    from quatrain.industrial.data.layouts import read_folder

    print_facts(read_folder(find(data)).describe(), json=json)


def _print_report(report: JobReport) -> None:
    units = ", ".join(f"{count} {name}" for name, count in report.units.items())
    typer.echo(f"{report.status}: images {units}; run {report.run_id}")
    print_plan_and_error(report)


# What a terminal has room for.
_SHOWN = ("image_auroc", "pixel_auroc", "aupro_30", "overkill", "review_good", "escape", "review_bad")


def _print_rows(rows: list[dict[str, Any]], *, title: str) -> None:
    import sys

    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left", caption="all measures: --json", caption_justify="left")
    table.add_column("model on", no_wrap=True)
    table.add_column("n", justify="right")
    for name in _SHOWN:
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(row["name"], str(row["n"]), *(cell(row["metrics"], row["intervals"], name) for name in _SHOWN))
    Console(width=None if sys.stdout.isatty() else 160).print(table)
