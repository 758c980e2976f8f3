"""The medical app's commands; each reads its config, calls a room and prints what came."""

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
from quatrain.core.cli.printing import print_facts, print_plan_and_error, rows_table, start

if TYPE_CHECKING:
    from rich.table import Table

    from quatrain.core.jobs.report import JobReport

app = typer.Typer(name="healthcare", help="Medical images, calibrated. Not for diagnosis.", no_args_is_help=True)
data_app = typer.Typer(help="Make, describe and check sets of images.", no_args_is_help=True)
app.add_typer(data_app, name="data")

# Room for the longest name of a fact.
_FACT_WIDTH = 22
Split = Annotated[Literal["train", "val", "test"] | None, typer.Option("--split", help="Which part of the data.")]
Kind = Annotated[
    Literal["binary", "multiclass", "ordinal", "multilabel"] | None,
    typer.Option("--kind", help="What the labels are; default: what the set says."),
]


@app.callback()
def _healthcare() -> None:
    """Medical images, calibrated. Not for diagnosis."""


@app.command()
def train(
    *,
    data: Data = None,
    out: Out = None,
    kind: Kind = None,
    promote: Promote = None,
    seed: Seed = None,
    config: ConfigFile = None,
    overrides: Overrides = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Train on a MedMNIST file, a folder of classes or a set of the catalogue, and seal the model."""
    start(quiet=quiet, verbose=verbose)
    from quatrain.core.config import load
    from quatrain.healthcare.train.config import TrainConfig
    from quatrain.healthcare.train.run import train as run_training

    choice = None if promote is None else "yes" if promote else "no"
    flags = {"data": data, "out": out, "kind": kind, "promote": choice, "seed": seed}
    settings = load(TrainConfig, section="healthcare.train", file=config, overrides=overrides or (), flags=flags)
    document = run_training(settings).to_dict()
    if json:
        print_json(document)
        return
    _print_rows(document["rows"], title="Image model")
    typer.echo(f"sealed {document['version'] or document['bundle']} (digest {document['digest'][:12]})")
    typer.echo(document["note"])


@app.command()
def evaluate(
    *,
    data: Data = None,
    bundle: BundlePath = None,
    split: Split = None,
    seed: Seed = None,
    config: ConfigFile = None,
    overrides: Overrides = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Measure a sealed model on labelled images, and say whether they come from another site."""
    start(quiet=quiet, verbose=verbose)
    from quatrain.core.config import load
    from quatrain.healthcare.evaluate.config import EvaluateConfig
    from quatrain.healthcare.evaluate.run import evaluate as run_evaluation

    flags = {"data": data, "bundle": bundle, "split": split, "seed": seed}
    settings = load(EvaluateConfig, section="healthcare.evaluate", file=config, overrides=overrides or (), flags=flags)
    document = run_evaluation(settings)
    if json:
        print_json(document)
        return
    _print_rows(document["rows"], title=f"{document['data']}: {document['n']:,} {document['split']} images")
    typer.echo(_told(document["site_shift"]))
    typer.echo(document["note"])


@app.command()
def adapt(
    *,
    data: Data = None,
    bundle: BundlePath = None,
    split: Split = None,
    labels: Annotated[int | None, typer.Option("--labels", help="Labelled cases to repair with.")] = None,
    repeats: Annotated[int | None, typer.Option("--repeats", help="Draws of those cases to average over.")] = None,
    out: Out = None,
    seed: Seed = None,
    config: ConfigFile = None,
    overrides: Overrides = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Repair probabilities, threshold and coverage for a new site with few labels; before and after on the rest."""
    start(quiet=quiet, verbose=verbose)
    from quatrain.core.config import load
    from quatrain.healthcare.evaluate.adapt import adapt as run_repair
    from quatrain.healthcare.evaluate.config import AdaptConfig

    given = {"labels": labels, "repeats": repeats, "out": out, "seed": seed}
    flags = {"data": data, "bundle": bundle, "split": split, **given}
    settings = load(AdaptConfig, section="healthcare.adapt", file=config, overrides=overrides or (), flags=flags)
    document = run_repair(settings)
    if json:
        print_json(document)
        return
    title = f"{document['data']}: {document['labels']} labels, mean of {document['repeats']} draws"
    _print_rows(document["rows"], title=title)
    typer.echo(_told(document["site_shift"]))
    if document["bundle"]:
        typer.echo(f"sealed {document['bundle']} (digest {document['digest'][:12]})")
    typer.echo(document["note"])


@app.command()
def compress(
    *,
    data: Data = None,
    bundle: BundlePath = None,
    out: Out = None,
    plan: Annotated[
        str | None, typer.Option("--plan", help="Steps such as int8:operators=Conv, or a TOML file.")
    ] = None,
    split: Split = None,
    promote: Promote = None,
    seed: Seed = None,
    config: ConfigFile = None,
    overrides: Overrides = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Make a sealed model smaller and faster, and keep it only where it finds as much."""
    start(quiet=quiet, verbose=verbose)
    from quatrain.core.config import load
    from quatrain.healthcare.compress.config import CompressConfig
    from quatrain.healthcare.compress.run import compress as run_compression

    choice = None if promote is None else "yes" if promote else "no"
    given = {"plan": plan, "split": split, "promote": choice, "seed": seed}
    flags = {"data": data, "bundle": bundle, "out": out, **given}
    settings = load(CompressConfig, section="healthcare.compress", file=config, overrides=overrides or (), flags=flags)
    result = run_compression(settings)
    if json:
        print_json(result.to_dict())
    else:
        typer.echo(result.told(), nl=False)
    raise typer.Exit(0 if result.bundle else 1)


@app.command()
def score(
    *,
    data: Annotated[
        list[str] | None, typer.Option("--data", help="Image, DICOM file or folder of them; repeatable.")
    ] = None,
    bundle: BundlePath = None,
    out: Out = None,
    since: Annotated[str | None, typer.Option("--since", help="Only files modified at or after this ISO time.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done; write nothing.")] = False,
    max_bad_ratio: Annotated[
        float | None, typer.Option("--max-bad-ratio", help="Exit 65 above this share of refused files.")
    ] = None,
    prom: Annotated[Path | None, typer.Option("--prom", help="Write metrics to this node-exporter textfile.")] = None,
    config: ConfigFile = None,
    overrides: Overrides = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Score new images once each; exit 65 for too much bad data, 75 while another run holds the lock."""
    start(quiet=quiet, verbose=verbose)
    from quatrain.core.config import load
    from quatrain.core.data.catalogue import find
    from quatrain.healthcare.score.run import ScoreConfig
    from quatrain.healthcare.score.run import score as run_scoring

    flags = {
        "inputs": tuple(find(name) for name in data) if data else None,
        "bundle": bundle,
        "out": out,
        "since": since,
        "dry_run": dry_run or None,
        "max_bad_ratio": max_bad_ratio,
        "prom": prom,
    }
    settings = load(ScoreConfig, section="healthcare.score", file=config, overrides=overrides or (), flags=flags)
    report = run_scoring(settings)
    if json:
        print_json(report.to_dict())
    else:
        _print_report(report)
    raise typer.Exit(report.exit_code)


@app.command()
def dashboard(port: Annotated[int, typer.Option("--port", help="Port on 127.0.0.1.")] = 8501) -> None:
    """Open the worklist and the model audit in a browser."""
    from quatrain.core.dashboard.run import serve

    raise typer.Exit(serve("healthcare", port=port))


@data_app.command("generate")
def generate(
    path: Annotated[Path, typer.Argument(help="The .npz file to write.")],
    *,
    seed: Annotated[int, typer.Option("--seed", help="Seed of every random choice.")] = 0,
    overrides: Overrides = None,
    json: Json = False,
) -> None:
    """Write SYNTHETIC chest radiographs of two sites; --set changes number, size, findings and sites."""
    start()
    from quatrain.core.config import load
    from quatrain.healthcare.simulation.phantom import PhantomConfig, write_chest_phantoms

    options = load(PhantomConfig, section="healthcare.phantom", overrides=overrides or ())
    write_chest_phantoms(path, seed=seed, **options.model_dump())
    facts = {"path": str(path), "is_synthetic": True, "seed": seed} | options.model_dump(mode="json")
    print_facts(facts, json=json, width=_FACT_WIDTH)


@data_app.command("describe")
def describe(data: Data = None, kind: Kind = None, json: Json = False) -> None:
    """Show what a set holds, as training would read it, and which images lie in two of its splits."""
    start()
    from quatrain.core.errors import UsageError
    from quatrain.healthcare.data.duplicates import find_duplicates
    from quatrain.healthcare.data.named import find_data

    if data is None:
        raise UsageError("give --data: a catalogue name, a MedMNIST .npz or a folder of classes")
    found = find_data(data, kind=kind)
    copies = find_duplicates(found.parts)
    facts = {
        "name": found.name,
        "kind": found.kind,
        "classes": list(found.classes),
        "shape": list(found.shape),
        "splits": {name: len(part) for name, part in found.parts.items()},
        "is_synthetic": found.is_synthetic,
        "licence": found.licence,
        "sha256": found.sha256,
        "refused": list(found.refused),
        "copies_across_splits": [vars(copy) for copy in copies],
    }
    print_facts(facts if json else facts | {"copies_across_splits": len(copies)}, json=json, width=_FACT_WIDTH)


def _told(shift: dict[str, Any]) -> str:
    words = "ALARM: these images differ from those of validation" if shift["is_alarm"] else "no sign of another site"
    return f"{words} (p = {shift['p_value']:.3f}; told apart with an AUC of {shift['domain_auc']:.3f})"


def _print_rows(rows: list[dict[str, Any]], *, title: str) -> None:
    import sys

    from rich.console import Console

    Console(width=None if sys.stdout.isatty() else 160).print(_rows_table(rows, title=title))


def _print_report(report: JobReport) -> None:
    units = ", ".join(f"{count} {name}" for name, count in report.units.items())
    typer.echo(f"{report.status}: files {units}; {report.bad_rows} bad; run {report.run_id}. Not for diagnosis")
    print_plan_and_error(report)


# What a terminal has room for.
_SHOWN = ("auc", "acc", "sensitivity", "specificity", "ece", "abstained")
# With more classes each one's coverage is in the JSON only.
_MAX_COVERAGES = 4


def _rows_table(rows: list[dict[str, Any]], *, title: str) -> Table:
    present = list(dict.fromkeys(name for row in rows for name in row["metrics"]))
    coverages = [name for name in present if name.startswith("coverage_")]
    names = [name for name in _SHOWN if name in present] + (coverages if len(coverages) <= _MAX_COVERAGES else [])
    return rows_table(rows, names, title=title)
