"""`quatrain industrial`: the app's commands."""

from __future__ import annotations

import typer

app = typer.Typer(name="industrial", help="Defect inspection on images of parts.", no_args_is_help=True)


@app.callback()
def _commands() -> None:
    """Defect inspection on images of parts."""
