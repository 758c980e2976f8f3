"""`quatrain demo`: every installed app's main job on embedded data, one table an app."""

from __future__ import annotations

import os
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from quatrain.core.cli.options import Json, Quiet, Verbose, print_json, verbosity
from quatrain.core.cli.printing import cell
from quatrain.core.errors import UserError

if TYPE_CHECKING:
    from rich.table import Table

    from quatrain.core.demo import DemoRow

# Wide enough for every column where the output is not a terminal.
_PIPE_WIDTH = 160

Home = Annotated[Path, typer.Option("--home", help="Folder that keeps the demo's models, ledger and runs.")]


def demo(
    home: Home = Path(".demo"),
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Run every app's main job on embedded data and print the results."""
    from quatrain.core import logs

    # A person watches a demo: warnings only, and as text.
    logs.configure(verbosity=verbosity(quiet=quiet, verbose=verbose) if quiet or verbose else -1, json=False)
    # Every room reads its places from the environment, so the demo never touches the user's own models.
    os.environ["QUATRAIN_CORE__HOME"] = str(home.resolve())
    points = sorted(entry_points(group="quatrain.demos"), key=lambda point: point.name)
    if not points:
        raise UserError("no app with a demo is installed; run `pip install quatrain-fintech` or `make install`")
    rows = [row for point in points for row in _run(point, home.resolve())]
    if json:
        print_json({"rows": [vars(row) for row in rows]})
    else:
        _print_tables(rows)
        typer.echo(f"\nModels, scored files and runs are in {home}; see them with:", err=True)
        typer.echo(f"  QUATRAIN_CORE__HOME={home.resolve()} quatrain dashboard", err=True)


def _run(point: EntryPoint, home: Path) -> list[DemoRow]:
    typer.echo(f"{point.name}: running the demo ...", err=True)
    rows: list[DemoRow] = point.load()(home / "demo" / point.name)
    return rows


def _print_tables(rows: list[DemoRow]) -> None:
    """Print a table for each app: no two of them measure the same."""
    from rich.console import Console

    console = Console(width=None if os.isatty(1) else _PIPE_WIDTH)
    console.print("Quatrain demo: SYNTHETIC data, generated on this machine\n", highlight=False)
    for app in dict.fromkeys(row.app for row in rows):
        console.print(_table([row for row in rows if row.app == app], app), "")


def _table(rows: list[DemoRow], app: str) -> Table:
    from rich.table import Table

    names = list(dict.fromkeys(name for row in rows for name in row.metrics))
    sets = list(dict.fromkeys(row.data for row in rows))
    title = f"{app}: {sets[0]}" if len(sets) == 1 else app
    table = Table(title=title, title_justify="left", title_style="bold")
    for header in ("data", "model")[len(sets) == 1 :]:
        table.add_column(header)
    for name in names:
        table.add_column(name, justify="right")
    for row in rows:
        first = (row.data, row.model)[len(sets) == 1 :]
        table.add_row(*first, *(cell(row.metrics, row.intervals, name) for name in names))
    return table
