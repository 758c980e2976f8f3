"""`quatrain healthcare`: the app's commands."""

from __future__ import annotations

import typer

app = typer.Typer(name="healthcare", help="Medical images, calibrated. Not for diagnosis.", no_args_is_help=True)


@app.callback()
def _commands() -> None:
    """Medical images, calibrated. Not for diagnosis."""
