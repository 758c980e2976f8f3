"""How every app's command starts and prints: the log's level, facts, measures with intervals, a job's plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import typer

from quatrain.core.cli.options import print_json, verbosity

if TYPE_CHECKING:
    from rich.table import Table

    from quatrain.core.jobs.report import JobReport


def start(*, quiet: bool = False, verbose: bool = False) -> None:
    """Set the log's level as the command's flags say."""
    from quatrain.core import logs

    logs.configure(verbosity=verbosity(quiet=quiet, verbose=verbose))


def print_facts(facts: Mapping[str, Any], *, json: bool, width: int = 18) -> None:
    """Print one JSON object, or a line for each fact with its name in a column of `width` characters."""
    if json:
        print_json(facts)
        return
    for name, value in facts.items():
        typer.echo(f"{name.replace('_', ' '):<{width}} {value}")


def cell(metrics: Mapping[str, float], intervals: Mapping[str, Any], name: str, *, digits: int = 3) -> str:
    """Return a measure with its interval, as a table shows it; nothing where it was not measured."""
    if name not in metrics:
        return ""
    text = f"{metrics[name]:.{digits}f}"
    if name in intervals:
        low, high = intervals[name]
        text += f" [{low:.3f}, {high:.3f}]"
    return text


def rows_table(rows: Sequence[Mapping[str, Any]], names: Sequence[str], *, title: str, digits: int = 3) -> Table:
    """Return the named measures of `evaluate`'s rows as a table, a line for each model and split."""
    from rich.table import Table

    table = Table(title=title, title_justify="left", caption="all measures: --json", caption_justify="left")
    table.add_column("model", no_wrap=True)
    table.add_column("split", no_wrap=True)
    for name in names:
        table.add_column(name, justify="right")
    for row in rows:
        measures = (cell(row["metrics"], row["intervals"], name, digits=digits) for name in names)
        table.add_row(row["name"], row["split"], *measures)
    return table


def print_plan_and_error(report: JobReport) -> None:
    """Print what a dry run would do, and on stderr why a run failed."""
    for step in report.plan:
        typer.echo(f"  {step['action']}: {step['file']} ({step['reason']})")
    if report.error:
        typer.echo(report.error, err=True)
