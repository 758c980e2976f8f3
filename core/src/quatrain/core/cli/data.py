"""`quatrain data`: list the catalogue, show a set, pull it, verify what is here."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from quatrain.core.cli.options import Json, Quiet, Verbose, print_json, verbosity
from quatrain.core.errors import ExitCode, UserError

if TYPE_CHECKING:
    from quatrain.core.data.descriptor import Descriptor

app = typer.Typer(help="The data catalogue: list, show, pull and verify sets.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="Name in the catalogue, see `quatrain data list`.")]


@app.command("list")
def list_sets(json: Json = False) -> None:
    """List every set of the catalogue and whether it is on this machine."""
    from quatrain.core.data import catalogue

    rows = [_summary(catalogue.describe(name)) for name in catalogue.names()]
    if json:
        print_json({"sets": rows})
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, header_style="bold")
    for header in ("name", "app", "task", "rows", "licence", "here"):
        table.add_column(header, justify="right" if header == "rows" else "left", no_wrap=header == "name")
    for row in rows:
        n_rows = f"{row['n_rows']:,}" if row["n_rows"] else ""
        here = "yes" if row["path"] else "no"
        table.add_row(row["name"], row["app"], row["task"], n_rows, row["licence"], here)
    Console().print(table)


@app.command()
def show(name: Name, json: Json = False) -> None:
    """Show where a set comes from, who may use it, and what to know before trusting it."""
    from quatrain.core.data import catalogue

    descriptor = catalogue.describe(name)
    held = catalogue.held(name)
    document = descriptor.model_dump(mode="json") | {"path": str(held) if held else None}
    if json:
        print_json(document)
        return
    for key, value in document.items():
        for line in _lines(key, value):
            typer.echo(line)


@app.command()
def pull(
    name: Name,
    *,
    supplied: Annotated[Path | None, typer.Option("--from", help="Take this copy in place of the source.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Fetch again even if it is here.")] = False,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Fetch a set into the cache, check its digest, and print where it is."""
    from quatrain.core import logs
    from quatrain.core.data import catalogue

    logs.configure(verbosity=verbosity(quiet=quiet, verbose=verbose))
    path = catalogue.pull(name, supplied=supplied, force=force, progress=not quiet)
    if json:
        print_json({"name": name, "path": str(path)})
    else:
        typer.echo(path)


@app.command()
def verify(
    names: Annotated[list[str] | None, typer.Argument(help="Sets to check; all that are here when left out.")] = None,
    json: Json = False,
) -> None:
    """Check the digest of the sets on this machine; exit 65 if one is wrong, 1 if one is missing."""
    from quatrain.core.data import catalogue

    chosen = names or [name for name in catalogue.names() if catalogue.held(name)]
    rows, exit_code = [], ExitCode.DONE
    for name in chosen:
        try:
            rows.append({"name": name, "ok": True, "path": str(catalogue.verify(name)), "problem": None})
        except UserError as error:
            rows.append({"name": name, "ok": False, "path": None, "problem": str(error)})
            exit_code = max(exit_code, error.exit_code)
    if json:
        print_json({"sets": rows})
    else:
        _print_verified(rows)
    raise typer.Exit(exit_code)


def _print_verified(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        typer.echo(f"{row['name']}: {'ok' if row['ok'] else row['problem']}")
    if not rows:
        typer.echo("no set is on this machine; see `quatrain data list`", err=True)


def _summary(descriptor: Descriptor) -> dict[str, Any]:
    from quatrain.core.data import catalogue

    held = catalogue.held(descriptor.name)
    fields = {"name", "title", "app", "task", "licence", "synthetic", "n_rows", "size"}
    return descriptor.model_dump(mode="json", include=fields) | {"path": str(held) if held else None}


def _lines(key: str, value: Any, indent: str = "") -> list[str]:
    """Return `key: value` lines; tables and lists of texts go below their key."""
    if value is None or value in ({}, []):
        return []
    if isinstance(value, dict):
        return [f"{indent}{key}:", *(line for k, v in value.items() for line in _lines(k, v, indent + "  "))]
    if isinstance(value, list):
        if key == "notes":
            return [f"{indent}{key}:", *(f"{indent}  - {item}" for item in value)]
        value = ", ".join(map(str, value))
    return [f"{indent}{key}: {value}"]
