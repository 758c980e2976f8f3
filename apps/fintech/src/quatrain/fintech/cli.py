"""The fraud app's commands; each reads its config, calls a room and prints what came."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from quatrain.core.cli import benchmark
from quatrain.core.cli.options import (
    BundlePath,
    Columns,
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

app = typer.Typer(help="Fraud detection on card transactions.", no_args_is_help=True)
data_app = typer.Typer(help="Make, describe and check transaction files.", no_args_is_help=True)
app.add_typer(data_app, name="data")

Since = Annotated[str | None, typer.Option("--since", help="Only files modified at or after this ISO time.")]


@app.callback()
def _fintech() -> None:
    """Fraud detection on card transactions."""


@app.command()
def train(
    *,
    data: Data = None,
    columns: Columns = None,
    out: Out = None,
    promote: Promote = None,
    search: Annotated[
        int | None, typer.Option("--search", min=1, help="Trials of other tree settings first; resumed if cut short.")
    ] = None,
    seed: Seed = None,
    config: ConfigFile = None,
    overrides: Overrides = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Choose a recipe on labelled transactions, train it, and seal it as fintech/fraud."""
    start(quiet=quiet, verbose=verbose)
    from quatrain.core.config import load
    from quatrain.fintech.train.config import TrainConfig
    from quatrain.fintech.train.run import train as run_training

    choice = None if promote is None else "yes" if promote else "no"
    flags = {"data": data, "columns": columns, "out": out, "promote": choice, "search": search, "seed": seed}
    result = run_training(
        load(TrainConfig, section="fintech.train", file=config, overrides=overrides or (), flags=flags)
    )
    document = result.to_dict()
    if json:
        print_json(document)
        return
    _print_rows(document["rows"], title="Fraud models")
    typer.echo(f"sealed {document['version'] or document['bundle']} (digest {document['digest'][:12]})")


@app.command()
def evaluate(
    *,
    data: Data = None,
    columns: Columns = None,
    bundle: BundlePath = None,
    split: Annotated[
        Literal["test", "all"] | None, typer.Option("--split", help="The last rows, or every row.")
    ] = None,
    train_days: Annotated[int | None, typer.Option("--train-days", help="Days that each fold learns from.")] = None,
    delay_days: Annotated[int | None, typer.Option("--delay-days", help="Days until a label is known.")] = None,
    test_days: Annotated[int | None, typer.Option("--test-days", help="Days that each fold is tested on.")] = None,
    folds: Annotated[int | None, typer.Option("--folds", help="Test windows, back from the last day.")] = None,
    seed: Seed = None,
    config: ConfigFile = None,
    overrides: Overrides = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Measure a sealed model on labelled transactions; with days or folds, the recipe trained anew in each fold."""
    start(quiet=quiet, verbose=verbose)
    from quatrain.core.config import load
    from quatrain.fintech.evaluate.config import EvaluateConfig
    from quatrain.fintech.evaluate.run import evaluate as run_evaluation

    days = {"train_days": train_days, "delay_days": delay_days, "test_days": test_days, "folds": folds}
    flags = {"data": data, "columns": columns, "bundle": bundle, "split": split, **days, "seed": seed}
    settings = load(EvaluateConfig, section="fintech.evaluate", file=config, overrides=overrides or (), flags=flags)
    document = run_evaluation(settings)
    if json:
        print_json(document)
        return
    from quatrain.fintech.evaluate.text import notes_of, shown_rows

    title = f"{document['data']}: {document['n']:,} transactions ({document['split']})"
    _print_rows(shown_rows(document["rows"]), title=title)
    for line in notes_of(document):
        typer.echo(line)


@app.command()
def compress(
    *,
    bundle: BundlePath = None,
    data: Data = None,
    columns: Columns = None,
    out: Out = None,
    promote: Promote = None,
    plan: Annotated[
        str | None, typer.Option("--plan", help="Steps such as int8, dynamic-int8 or prune:0.5,int8; or a TOML file.")
    ] = None,
    metric_drop: Annotated[
        float | None, typer.Option("--metric-drop", help="Average precision that may be lost on later rows.")
    ] = None,
    min_speedup: Annotated[
        float | None, typer.Option("--min-speedup", help="How many times as fast the result must be.")
    ] = None,
    seed: Seed = None,
    config: ConfigFile = None,
    overrides: Overrides = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Make a sealed network smaller and faster where later rows show that little is lost; exit 1 if it is refused."""
    start(quiet=quiet, verbose=verbose)
    from quatrain.core.config import load
    from quatrain.fintech.compress.config import CompressConfig
    from quatrain.fintech.compress.run import compress as run_compression

    choice = None if promote is None else "yes" if promote else "no"
    asked = {"plan": plan, "metric_drop": metric_drop, "min_speedup": min_speedup, "seed": seed}
    flags = {"bundle": bundle, "data": data, "columns": columns, "out": out, "promote": choice, **asked}
    result = run_compression(
        load(CompressConfig, section="fintech.compress", file=config, overrides=overrides or (), flags=flags)
    )
    document = result.to_dict()
    if json:
        print_json(document)
    else:
        typer.echo(result.told(), nl=False)
    raise typer.Exit(0 if result.bundle else 1)


@app.command()
def score(
    *,
    data: Annotated[
        list[str] | None, typer.Option("--data", help="File, folder or catalogue name; repeatable.")
    ] = None,
    bundle: BundlePath = None,
    out: Out = None,
    columns: Columns = None,
    history: Annotated[
        Path | None, typer.Option("--history", help="Earlier transactions to look back on: a file or folder.")
    ] = None,
    labels: Annotated[
        Path | None, typer.Option("--labels", help="Which earlier ones were fraud: transaction_id, is_fraud.")
    ] = None,
    since: Since = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done; write nothing.")] = False,
    max_bad_ratio: Annotated[
        float | None, typer.Option("--max-bad-ratio", help="Exit 65 above this share of bad rows or refused files.")
    ] = None,
    prom: Annotated[Path | None, typer.Option("--prom", help="Write metrics to this node-exporter textfile.")] = None,
    config: ConfigFile = None,
    overrides: Overrides = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Score new transaction files once each; exit 65 for too much bad data, 75 while another run holds the lock."""
    start(quiet=quiet, verbose=verbose)
    from quatrain.core.config import load
    from quatrain.core.data.catalogue import find
    from quatrain.fintech.score.run import ScoreConfig
    from quatrain.fintech.score.run import score as run_scoring

    flags = {
        "inputs": tuple(find(name) for name in data) if data else None,
        "bundle": bundle,
        "out": out,
        "columns": columns,
        "history": history,
        "labels": labels,
        "since": since,
        "dry_run": dry_run or None,
        "max_bad_ratio": max_bad_ratio,
        "prom": prom,
    }
    settings = load(ScoreConfig, section="fintech.score", file=config, overrides=overrides or (), flags=flags)
    report = run_scoring(settings)
    if json:
        print_json(report.to_dict())
    else:
        _print_report(report)
    raise typer.Exit(report.exit_code)


app.command("benchmark")(benchmark.of_model("fintech/fraud@prod"))


@app.command()
def dashboard(port: Annotated[int, typer.Option("--port", help="Port on 127.0.0.1.")] = 8501) -> None:
    """Open the alert queue and the model report in a browser."""
    from quatrain.core.dashboard.run import serve

    raise typer.Exit(serve("fintech", port=port))


@data_app.command("generate")
def generate(
    path: Annotated[Path, typer.Argument(help="The Parquet file to write.")],
    *,
    kind: Annotated[
        Literal["handbook", "hard"],
        typer.Option("--kind", help="The handbook's world, or one with habits, look-alikes, drift and late labels."),
    ] = "handbook",
    truth: Annotated[
        Path | None,
        typer.Option("--truth", help="With --kind hard: also write what each row is in truth, for analysis only."),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Seed of every random choice.")] = 0,
    overrides: Overrides = None,
    json: Json = False,
) -> None:
    """Write SYNTHETIC labelled transactions; --set changes the world."""
    start()
    from quatrain.core.config import load
    from quatrain.core.errors import UsageError

    facts: dict[str, Any] = {"path": str(path), "is_synthetic": True, "kind": kind, "seed": seed}
    if kind == "hard":
        from quatrain.fintech.simulation.config import HardConfig
        from quatrain.fintech.simulation.hard import write_card_fraud_hard

        hard = load(HardConfig, section="fintech.hard_simulator", overrides=overrides or ())
        write_card_fraud_hard(path, seed=seed, truth=truth, **hard.model_dump())
        print_facts(facts | {"truth": str(truth) if truth else None} | hard.model_dump(mode="json"), json=json)
        return
    if truth is not None:
        raise UsageError("--truth needs --kind hard: the handbook's labels are its truth")
    from quatrain.fintech.simulation.handbook import SimulatorConfig, write_handbook_like

    options = load(SimulatorConfig, section="fintech.simulator", overrides=overrides or ())
    write_handbook_like(path, seed=seed, **options.model_dump())
    print_facts(facts | options.model_dump(mode="json"), json=json)


@data_app.command("describe")
def describe(data: Data = None, columns: Columns = None, json: Json = False) -> None:
    """Show what a labelled file or set holds, as training would read it."""
    start()
    from quatrain.fintech.data.named import find_data
    from quatrain.fintech.data.summary import describe_labelled

    found = find_data(_required(data), columns=columns)
    print_facts(describe_labelled(found), json=json)


@data_app.command("leaks")
def leaks(data: Data = None, columns: Columns = None, seed: Seed = None, json: Json = False) -> None:
    """Name the columns of labelled data that say what nobody knew when the transaction was decided on."""
    start()
    from quatrain.fintech.data.named import find_data
    from quatrain.fintech.evaluate.leak_files import leaks_of
    from quatrain.fintech.evaluate.text import notes_of

    document = leaks_of(find_data(_required(data), columns=columns), seed=seed or 0)
    if json:
        print_json(document)
        return
    typer.echo(f"{document['data']}: {len(document['columns'])} columns in {document['rows']:,} labelled rows")
    for line in notes_of(document):
        typer.echo(line)


@data_app.command("validate")
def validate(data: Data = None, columns: Columns = None, json: Json = False) -> None:
    """Count the rows of files that scoring would reject, by reason; exit 65 if a file would be refused."""
    start()
    from quatrain.fintech.data.named import find_data
    from quatrain.fintech.data.summary import validate_files

    found = find_data(_required(data), columns=columns)
    document = validate_files(found)
    if json:
        print_json(document)
    else:
        for file in document["files"]:
            typer.echo(f"{file['file']}: {file['good']} good, {file['bad']} bad rows {file['refused'] or ''}".rstrip())
            for reason, count in file["reasons"].items():
                typer.echo(f"  {count:>8} {reason}")
    raise typer.Exit(document["exit_code"])


@data_app.command("tokenise")
def tokenise(
    data: Annotated[Path, typer.Option("--data", help="The CSV or Parquet file.")],
    columns: Annotated[Path, typer.Option("--columns", help='columns.toml with \\[pan] columns = ["card_number"].')],
    out: Annotated[Path, typer.Option("--out", help="The file to write, in the same format.")],
    json: Json = False,
) -> None:
    """Rewrite a file with keyed tokens in place of its card numbers."""
    start()
    from quatrain.fintech.data.columns import read_columns
    from quatrain.fintech.data.tokenise import tokenise_file

    print_facts(tokenise_file(data, read_columns(columns), out), json=json)


@data_app.command("keygen")
def keygen(
    out: Annotated[Path | None, typer.Option("--out", help="The key file; default: among this machine's keys.")] = None,
    json: Json = False,
) -> None:
    """Make the secret key that card numbers are tokenised with; only its owner can read it."""
    start()
    from quatrain.fintech.data.pan_key import key_file, make_key

    file = out or key_file()
    key = make_key(file)
    print_facts({"path": str(file), "key_id": key.id}, json=json)


def _required(data: str | None) -> str:
    if data is None:
        from quatrain.core.errors import UsageError

        raise UsageError("give --data: a catalogue name, a file or a folder")
    return data


def _print_report(report: JobReport) -> None:
    units = ", ".join(f"{count} {name}" for name, count in report.units.items())
    typer.echo(f"{report.status}: files {units}; rows {report.rows}, {report.bad_rows} bad; run {report.run_id}")
    for path in report.outputs:
        typer.echo(f"  {path}")
    print_plan_and_error(report)


def _print_rows(rows: list[dict[str, Any]], *, title: str) -> None:
    from rich.console import Console

    Console(width=None if _is_terminal() else 140).print(_rows_table(rows, title=title))


def _is_terminal() -> bool:
    import sys

    return sys.stdout.isatty()


# What a terminal has room for.
_SHOWN = ("ap", "auc", "value_recall")


def _rows_table(rows: list[dict[str, Any]], *, title: str) -> Table:
    present = list(dict.fromkeys(name for row in rows for name in row["metrics"]))
    names = [name for name in present if name in _SHOWN or name.startswith("cp_")]
    return rows_table(rows, names, title=title, digits=4)
