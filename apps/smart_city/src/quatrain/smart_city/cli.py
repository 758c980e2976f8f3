"""`quatrain smart-city`: the app's commands."""

from __future__ import annotations

import typer

app = typer.Typer(name="smart-city", help="Traffic-signal timing on SUMO.", no_args_is_help=True)


@app.callback()
def _commands() -> None:
    """Traffic-signal timing on SUMO."""
