"""The rows that a batch run refused, read from its quarantine files."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import streamlit as st

from quatrain.core.jobs.history import JobUnit

# More lines than anyone reads on a page; the files hold the rest.
MAX_LINES = 20_000
_COLUMNS = ["file", "row", "column", "value", "reason"]
_FOLDER = "quarantine"


class QuarantineFile(NamedTuple):
    """A quarantine file; size and time tell one version from the next."""

    path: str
    size: int
    mtime_ns: int


def describe(units: Iterable[JobUnit]) -> tuple[QuarantineFile, ...]:
    """Return the quarantine files of these units that are still there."""
    paths = [path for unit in units for path in unit.outputs if path.parent.name == _FOLDER]
    found = []
    for path in paths:
        if path.is_file():
            stat = path.stat()
            found.append(QuarantineFile(str(path), stat.st_size, stat.st_mtime_ns))
    return tuple(found)


@st.cache_resource(max_entries=16, show_spinner=False)
def read(files: tuple[QuarantineFile, ...]) -> pd.DataFrame:
    """Return rejected rows: file, row, column, value, reason; a file refused as a whole has no row."""
    lines: list[dict[str, object]] = []
    for file in files:
        with Path(file.path).open(encoding="utf-8") as stream:
            for line in stream:
                if len(lines) >= MAX_LINES:
                    break
                lines.append(json.loads(line))
    frame = pd.DataFrame(lines, columns=_COLUMNS)
    return frame.astype({"row": "Int64"})


def by_reason(rejected: pd.DataFrame) -> pd.DataFrame:
    """Return how many rows each reason cost, the most first: columns reason, rows."""
    named = rejected["column"].fillna("").str.cat(rejected["reason"], sep=": ").str.removeprefix(": ")
    counts = named.value_counts().head(8)
    return pd.DataFrame({"reason": counts.index, "rows": counts.to_numpy()})
