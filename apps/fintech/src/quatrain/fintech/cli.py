"""The fraud app's commands."""

from __future__ import annotations

import typer

app = typer.Typer(help="Fraud detection on card transactions.", no_args_is_help=True)


@app.callback()
def _fintech() -> None:
    """Fraud detection on card transactions."""
