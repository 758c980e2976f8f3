"""The flags that every app's commands share, and how a command prints its result."""

from __future__ import annotations

import json as jsonlib
import math
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer


def _use_config(file: Path | None) -> Path | None:
    # Every room that asks for its settings later in this process reads the same file.
    if file is not None:
        from quatrain.core.config import CONFIG_VARIABLE

        os.environ[CONFIG_VARIABLE] = str(file.absolute())
    return file


Data = Annotated[str | None, typer.Option("--data", help="Catalogue name, file or folder.")]
Columns = Annotated[Path | None, typer.Option("--columns", help="TOML that maps a foreign file's columns.")]
BundlePath = Annotated[
    str | None, typer.Option("--bundle", help="Model name such as fintech/fraud@prod, or a bundle folder.")
]
Out = Annotated[Path | None, typer.Option("--out", help="Where results are written.")]
ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", "-c", callback=_use_config, help="TOML config file, its \\[core] section too."),
]
Overrides = Annotated[list[str] | None, typer.Option("--set", help="key=value, wins over file and environment.")]
Promote = Annotated[
    bool | None, typer.Option("--promote/--no-promote", help="Make prod mean this model; default: if prod means none.")
]
Seed = Annotated[int | None, typer.Option("--seed", help="Seed of every random choice.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout and nothing else there.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Warnings and errors only.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Debug log.")]


def verbosity(*, quiet: bool, verbose: bool) -> int:
    """Return the level that `logs.configure` takes; --quiet wins."""
    return -1 if quiet else int(verbose)


def print_json(document: Any) -> None:
    """Print one JSON object on stdout; NaN and infinity become null, as JSON has neither."""
    sys.stdout.write(jsonlib.dumps(_finite(document), indent=2, default=str) + "\n")


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
