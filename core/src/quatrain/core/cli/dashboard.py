"""`quatrain dashboard`: the portal of every installed app, on this machine."""

from __future__ import annotations

from typing import Annotated

import typer

from quatrain.core.dashboard.run import DEFAULT_PORT, serve


def dashboard(
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="Port on 127.0.0.1.")] = DEFAULT_PORT,
    app: Annotated[str | None, typer.Option("--app", help="Show one app only, such as fintech.")] = None,
) -> None:
    """Open the dashboards of every installed app in a browser on this machine."""
    typer.echo(f"Open http://127.0.0.1:{port} in a browser; Ctrl+C stops the server.", err=True)
    raise typer.Exit(serve(app, port=port))
