"""How every benchmark ends: a table of claims, then one JSON line, then the exit code of the contract."""

from __future__ import annotations

import argparse
import json
import platform
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import NoReturn

from quatrain.core import hardware

# The packages whose speed a claim may rest on.
_PACKAGES = ("quatrain-core", "numpy", "onnxruntime", "torch", "lightgbm", "scikit-learn", "pandas", "pyarrow")


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A measured number beside what is promised of it."""

    name: str
    value: float
    target: float
    at_least: bool
    holds: bool


def claim(name: str, value: float, target: float, *, at_least: bool) -> Claim:
    """Return the claim that `value` is at least `target`, or with at_least=False at most.

    A value that is not a number never holds.
    """
    holds = value >= target if at_least else value <= target
    return Claim(name=name, value=float(value), target=float(target), at_least=at_least, holds=bool(holds))


def parser(description: str | None) -> argparse.ArgumentParser:
    """Return an argument parser that knows --quick; add your own flags to it."""
    arguments = argparse.ArgumentParser(description=description)
    arguments.add_argument("--quick", action="store_true", help="Stay under a minute, with wider error bars.")
    return arguments


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print rows under a header in aligned columns, numbers to four significant digits."""
    lines = [list(header), *([_cell(value) for value in row] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    print()


def finish(claims: Sequence[Claim] = (), skipped: str | None = None) -> NoReturn:
    """Print the claims and the closing JSON line; exit 1 if a claim does not hold, else 0.

    `skipped` says why nothing was measured, such as "no CUDA device"; it exits 0.
    """
    if claims:
        rows = [
            (c.name, c.value, f"{'>=' if c.at_least else '<='} {c.target:g}", "holds" if c.holds else "FAILS")
            for c in claims
        ]
        table(("claim", "measured", "target", ""), rows)
    document: dict[str, object] = {"claims": [asdict(c) for c in claims]}
    if skipped is not None:
        print(f"skipped: {skipped}\n")
        document["skipped"] = skipped
    document |= {"machine": hardware.describe(), "versions": _versions()}
    print(json.dumps(document), flush=True)
    sys.exit(0 if skipped is not None or all(c.holds for c in claims) else 1)


def _cell(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
