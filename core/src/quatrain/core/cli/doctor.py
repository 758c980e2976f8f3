"""`quatrain doctor`: what works here, what is missing, and the command that gets it."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from quatrain.core.cli.options import Json, print_json
from quatrain.core.errors import ExitCode

if TYPE_CHECKING:
    from quatrain.core.doctor import Check

_MARKS = {
    "ok": "[green]ok[/]",
    "warning": "[yellow]warning[/]",
    "missing": "[dim]missing[/]",
    "broken": "[red]broken[/]",
}


def doctor(*, json: Json = False) -> None:
    """Show versions, hardware, apps and storage, and how to get what is missing.

    Exits 1 when something that Quatrain needs is broken; what is only optional never fails.
    """
    from quatrain.core.doctor import examine

    checks = examine()
    broken = [check for check in checks if check.status == "broken"]
    if json:
        from quatrain.core import hardware

        document = {"healthy": not broken, "checks": [asdict(check) for check in checks]}
        print_json(document | {"machine": hardware.describe()})
    else:
        _print(checks, n_broken=len(broken))
    if broken:
        raise typer.Exit(ExitCode.FAILED)


def _print(checks: list[Check], *, n_broken: int) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console(highlight=False)
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    group = ""
    for check in checks:
        if check.group != group:
            group = check.group
            table.add_row("", "")
            table.add_row(f"[bold]{group}[/]", "", "")
        fix = f"\n[bold]->[/] {escape(check.fix)}" if check.fix else ""
        table.add_row(f"  {_MARKS[check.status]}", escape(check.name), escape(check.detail) + fix)
    console.print(table)
    console.print()
    console.print("Everything that is needed works." if not n_broken else f"[red]Broken: {n_broken}.[/] See -> above.")
