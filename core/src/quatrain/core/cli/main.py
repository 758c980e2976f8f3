"""The front door: core's commands, and one group for every installed app."""

from __future__ import annotations

import sys
from importlib.metadata import entry_points, version
from typing import Annotated

import typer

from quatrain.core.cli import benchmark, dashboard, data, demo, doctor, models, runs
from quatrain.core.errors import UserError

app = typer.Typer(
    name="quatrain",
    help="Train, check and run models that stay what they were when they were trained.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.command("demo")(demo.demo)
app.command("dashboard")(dashboard.dashboard)
app.command("doctor")(doctor.doctor)
app.command("benchmark")(benchmark.benchmark)
app.add_typer(models.app, name="models")
app.add_typer(runs.app, name="runs")
app.add_typer(data.app, name="data")


def main() -> None:
    """Run the command line and exit with the code of the contract."""
    _add_apps()
    try:
        app()
    except UserError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)


def _add_apps() -> None:
    for point in sorted(entry_points(group="quatrain.apps"), key=lambda point: point.name):
        try:
            group = point.load()
        except ImportError as error:
            typer.echo(f"warning: the app {point.name} cannot be loaded: {error}; run `quatrain doctor`", err=True)
            continue
        app.add_typer(group, name=point.name)


def _print_version(requested: bool) -> None:
    if requested:
        typer.echo(f"quatrain {version('quatrain-core')}")
        raise typer.Exit


@app.callback()
def _front_door(
    show_version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Train, check and run models that stay what they were when they were trained."""


if __name__ == "__main__":
    main()
